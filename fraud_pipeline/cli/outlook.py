"""The expected training on an inspected file: its table, its split, and problems that stop it.

Belongs here: an inspection together with settings. Must not be here: guesses, writing files.
"""

from dataclasses import dataclass
from datetime import timedelta

from fraud_pipeline.cli.inspection_table import table_of
from fraud_pipeline.cli.planned_split import PlannedPart, Waits, planned_split, waits_for
from fraud_pipeline.ingest.inspection import Inspection
from fraud_pipeline.modeling.dataset import SplitError
from fraud_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Outlook:
    """An inspection with the split that a training would make; `problems` stop it."""

    inspection: Inspection
    waits: Waits
    parts: tuple[PlannedPart, ...]
    problems: tuple[str, ...]

    def table(self) -> str:
        """The table that a person confirms."""
        return table_of(self.inspection, parts=self.parts, notes=self.waits.notes, problems=self.problems)


def outlook_of(inspection: Inspection, *, settings: Settings, label_delay: timedelta | None) -> Outlook:
    """The expected training on an inspected file, with these settings and the given delay."""
    span = inspection.span
    if span is None or inspection.problems:
        waits = Waits(label_delay or settings.label_delay, settings.gap)
        return Outlook(inspection, waits, (), inspection.problems)
    reported = "reported_at" in inspection.declaration.fields
    waits = waits_for(
        timedelta(days=(span[1].date() - span[0].date()).days + 1),
        label_delay=settings.label_delay if label_delay is None else label_delay,
        gap=settings.gap,
        given=reported or label_delay is not None or "label_delay" in settings.model_fields_set,
        gap_given="gap" in settings.model_fields_set,
    )
    maturity = settings.label_maturity if reported else waits.label_delay
    try:
        parts = planned_split(inspection, waits=waits, label_maturity=maturity, warm_up=settings.warm_up)
    except SplitError as error:
        problem = f"No split is possible: {error}. A shorter delay leaves more rows: --label-delay 1h"
        return Outlook(inspection, waits, (), (problem,))
    return Outlook(inspection, waits, tuple(parts), ())
