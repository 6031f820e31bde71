"""The schema of raw transactions: rows as a source gave them, before validation.

Belongs here: what every source must give. Must not be here: rules about values (`ingest/validation.py`).
"""

from typing import Final

import pandas as pd
import pandera.pandas as pa

from fraud_pipeline.schema.fields import transaction_fields

LABEL_UNKNOWN: Final = "label_unknown"
"""The column of rows whose label the source itself does not know; sources without such rows have no such column."""

RAW_TRANSACTIONS: Final = pa.DataFrameSchema(
    {
        # The day of a row is that of its time; a row without one is stored with the first day of its run.
        "event_time": pa.Column(
            checks=pa.Check(lambda times: isinstance(times.dtype, pd.DatetimeTZDtype)), nullable=True
        )
    }
    | {
        field.name: pa.Column(nullable=True, required=False)
        for field in transaction_fields()
        if field.name != "event_time"
    },
    name="raw_transactions",
)
"""Values of any type; other columns of the source are kept, too."""
