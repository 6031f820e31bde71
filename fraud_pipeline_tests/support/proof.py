"""The summary that `pytest -m chaos` prints at its end: proven facts, in counts.

Belongs here: how a test records them and how they are printed, with any capture of output and any number of workers.
Must not be here: any test.

A test records a line under SAID, or numbers under COUNTS, which are summed over all tests, with `record_property`.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

SAID: Final = "proof"
COUNTS: Final = "proof counts"


def proven(reports: Iterable[Any]) -> list[str]:
    """The lines of all tests' reports, then the sums."""
    properties = [pair for report in reports if report.when == "call" for pair in report.user_properties]
    sums: Counter[str] = Counter()
    for name, counts in properties:
        if name == COUNTS:
            sums.update(counts)
    return [
        *(text for name, text in properties if name == SAID),
        *(f"{count:,} {what}" for what, count in sums.items()),
    ]
