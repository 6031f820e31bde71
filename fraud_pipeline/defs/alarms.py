"""The check that an alarm hangs on: red is what the newest judged report says, whichever day was made last.

Belongs here: what a report's run tells Dagster about the alarm. Must not be here: what is red (`drift.py`,
`performance.py`), what an alarm starts (`retraining.py`).

Dagster knows only the last result of a check. A day that is not judged would therefore pass as a recovery, and a
backfill of old days would set the alarm off, or reset it; so each run tells how the alarm stands.
"""

from collections.abc import Iterable
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


def alarm_check(
    database: Database, report: ReportName, *, check: str, day: pd.Timestamp, told: str
) -> dg.AssetCheckResult:
    """How the alarm of a report stands after `day` was stored, of which `told` is what was found."""
    newest = next((verdict for verdict in newest_verdicts(database) if verdict.report == report), None)
    passed = newest is None or not newest.red
    if newest is not None and newest.day != day:
        colour = "red" if newest.red else "green"
        told = (
            f"{told} The alarm stays {colour}, as the newest judged day has it, {newest.day:%Y-%m-%d}: {newest.summary}"
        )
    severity = dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(passed=passed, check_name=check, severity=severity, metadata={"finding": told})
