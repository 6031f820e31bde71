"""The check behind an alarm: it shows the verdict of the newest judged day, whichever day was computed last.

Belongs here: the check result that a report's run returns. Must not be here: what is red (`monitoring/`), what an alarm
starts (`retraining.py`).

Dagster knows only the last result of a check. A day that is not judged would therefore look like a recovery, and a
backfill of old days would raise or reset the alarm. So each run returns the state of the alarm.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

import dagster as dg
import pandas as pd

from fraud_pipeline.database import Database
from fraud_pipeline.database.verdicts import ReportName, ReportVerdict, newest_verdicts, replace_verdict

NO_CHAMPION: Final = "there is no champion yet; `fraud-detect train` makes one"


def store_not_judged(database: Database, report: ReportName, *, days: Iterable[date], reason: str) -> str:
    """Store that a report could judge none of these days, and why; the summary of the last one."""
    summary = ""
    for day in days:
        summary = f"{day} was not judged: {reason}."
        replace_verdict(
            database, ReportVerdict(report, pd.Timestamp(day, tz="UTC"), red=False, judged=False, summary=summary)
        )
    return summary


def not_judged_result(
    database: Database, report: ReportName, *, check: str, days: Sequence[date], reason: str
) -> dg.MaterializeResult:
    """The result of a run that could judge none of these days."""
    summary = store_not_judged(database, report, days=days, reason=reason)
    result = alarm_check(database, report, check=check, day=pd.Timestamp(days[-1], tz="UTC"), told=summary)
    return dg.MaterializeResult(metadata={"summary": summary}, check_results=[result])


def alarm_check(
    database: Database, report: ReportName, *, check: str, day: pd.Timestamp, told: str
) -> dg.AssetCheckResult:
    """The state of the alarm of a report after `day` was stored; `told` is the finding of that day."""
    newest = next((verdict for verdict in newest_verdicts(database) if verdict.report == report), None)
    passed = newest is None or not newest.red
    if newest is not None and newest.day != day:
        colour = "red" if newest.red else "green"
        told = (
            f"{told} The alarm stays {colour}, as the newest judged day has it, {newest.day:%Y-%m-%d}: {newest.summary}"
        )
    severity = dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(passed=passed, check_name=check, severity=severity, metadata={"finding": told})
