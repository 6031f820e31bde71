"""Fraud reports from the labels of a source's rows, and the version of each day on which something was reported.

Belongs here: when a fraud counts as reported. Must not be here: reading rows.
"""

from collections.abc import Mapping
from datetime import date, timedelta

import pandas as pd
import pyarrow.compute as pc

from fraud_pipeline.ingest.file_content import FileContent
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.schema.money import Conversion
from fraud_pipeline.schema.transactions import FRAUD_REPORTS, REPORT_COLUMNS, TIME_DTYPE, empty
from fraud_pipeline.storage.content_version import frame_version


def reports_of(content: FileContent, *, label_delay: timedelta, conversion: Conversion | None = None) -> pd.DataFrame:
    """Frauds in order of report, without rows that validation rejects; FRAUD_REPORTS rows.

    A fraud without a report time counts as reported `label_delay` after its transaction.
    """
    if not content.label_columns:
        return empty(FRAUD_REPORTS)
    dated = content.table.slice(content.n_misplaced)
    # Validation keeps the first valid row of an id, and only the label of that row counts.
    fraud_ids = dated.filter(pc.field("is_fraud")).column("transaction_id").combine_chunks()
    frauds = dated.filter(pc.is_in(dated.column("transaction_id"), value_set=fraud_ids)).to_pandas()
    times = frauds["event_time"] + label_delay
    if "reported_at" in content.label_columns:
        # A report before its transaction is an error in the file; using its time would let features see the future.
        times = frauds["reported_at"].where(frauds["reported_at"].ge(frauds["event_time"]), times)
    frauds["reported_at"] = times.astype(TIME_DTYPE)
    result = validate(frauds, now=pd.Timestamp.now(tz="UTC"), conversion=conversion)
    kept = frauds.drop(result.rejected["row"]).reset_index(drop=True)
    reports = result.accepted.assign(reported_at=kept["reported_at"], is_fraud=True)[list(REPORT_COLUMNS)]
    reports = reports[kept["is_fraud"].eq(True)]
    ordered: pd.DataFrame = reports.sort_values("reported_at", kind="stable").reset_index(drop=True)
    return ordered


def report_versions(reports: pd.DataFrame) -> Mapping[date, str]:
    """The version of each day on which something was reported."""
    by_day = reports.groupby(reports["reported_at"].dt.date)
    return {date.fromisoformat(str(day)): frame_version(of_day.reset_index(drop=True)) for day, of_day in by_day}
