"""Whether a person has named a source, for whatever runs by itself.

Belongs here: reasons why schedules start nothing. Must not be here: sources (`resources.py`), schedules.
"""

from typing import Final

import dagster as dg

from fraud_pipeline.settings import Settings, home_directory, load_settings

NO_SOURCE: Final = (
    "no source of transactions is named: name a file by `fraud-detect train --data-path FILE` or FRAUD_DATA_PATH, "
    "learn from what is served by FRAUD_LEARN_FROM_SERVED=true, or choose the synthetic world for a first look by "
    "`fraud-detect train --synthetic`"
)


def reason_to_wait(settings: Settings) -> dg.SkipReason | None:
    """Why nothing may start by itself: no source is chosen, or another one since these definitions were loaded."""
    # A code location keeps the definitions that it was started with; runs load their own.
    present = load_settings() if settings.home == home_directory() else settings
    if _source(present) != _source(settings):
        return dg.SkipReason(
            f"this code location was loaded with another source ({settings.source_name}) than is named now "
            f"({present.source_name}): reload it in the Dagster UI under Deployment, or restart its process"
        )
    return dg.SkipReason(NO_SOURCE) if settings.source_kind == "none" else None


def _source(settings: Settings) -> tuple[object, ...]:
    return settings.source_id, settings.tables_location, settings.first_day, settings.last_day
