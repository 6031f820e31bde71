"""The check behind an alarm: it shows the verdict of the newest judged day, whichever day was computed last.

Belongs here: the check result that a report's run returns. Must not be here: what is red (`monitoring/`), what an alarm
starts (`retraining.py`).

Dagster knows only the last result of a check. A day that is not judged would therefore look like a recovery, and a
backfill of old days would raise or reset the alarm. So each run returns the state of the alarm.
"""

from collections.abc import Sequence
from datetime import date
from typing import Final

import dagster as dg
import pandas as pd

from fraud_pipeline.database import Database
from fraud_pipeline.database.verdicts import ReportName, ReportVerdict, newest_verdicts, replace_verdict

NO_CHAMPION: Final = "there is no champion yet; `fraud-detect train` makes one"


def not_judged_result(
    database: Database,
    report: ReportName,
    *,
    check: str,
    days: Sequence[date],
    reason: str,
    further_checks: Sequence[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult:
    """Store that a report could judge none of these days, and why; returns the result of that run."""
    for day in days:
        summary = f"{day} was not judged: {reason}."
        at = pd.Timestamp(day, tz="UTC")
        replace_verdict(database, ReportVerdict(report, at, red=False, judged=False, summary=summary))
    result = alarm_check(database, report, check=check, day=at, summary=summary)
    return dg.MaterializeResult(metadata={"summary": summary}, check_results=[result, *further_checks])


def alarm_check(
    database: Database, report: ReportName, *, check: str, day: pd.Timestamp, summary: str
) -> dg.AssetCheckResult:
    """The state of the alarm of a report after `day` was stored; `summary` is the finding of that day."""
    newest = next((verdict for verdict in newest_verdicts(database) if verdict.report == report), None)
    passed = newest is None or not newest.red
    finding = summary
    if newest is not None and newest.day != day:
        colour = "red" if newest.red else "green"
        finding += f" The alarm stays {colour}, as of the newest judged day, {newest.day:%Y-%m-%d}: {newest.summary}"
    severity = dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(passed=passed, check_name=check, severity=severity, metadata={"finding": finding})
