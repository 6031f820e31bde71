"""A source whose personal fields are pseudonyms, so that no table holds their values.

Belongs here: the replacement at the door of tables. Must not be here: the sources themselves, stored rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

import pandas as pd

from fraud_pipeline.ingest.day_plan import SourceDay
from fraud_pipeline.ingest.sources import TransactionSource
from fraud_pipeline.schema.personal_fields import PersonalFields


@dataclass(frozen=True, slots=True)
class PseudonymousSource:
    """The rows of another source, with pseudonyms. A day's version names the key, which decides its rows."""

    source: TransactionSource
    personal: PersonalFields

    def transactions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """The source's rows with `event_time` in [start, end)."""
        return self.personal.rows(self.source.transactions(start=start, end=end))

    def reports(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """The source's reports, which have no own fields."""
        return self.source.reports(start=start, end=end)

    def day_versions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> Mapping[date, SourceDay]:
        """The source's versions, with the key."""
        key = self.personal.key.id[:8] if self.personal.key else ""
        return {
            day: replace(version, transactions=f"{version.transactions}-{key}")
            for day, version in self.source.day_versions(start=start, end=end).items()
        }

    @property
    def notes(self) -> Mapping[str, int]:
        """What reading the source recognised; a source that is no file has no notes."""
        notes: Mapping[str, int] = getattr(self.source, "notes", {})
        return notes
