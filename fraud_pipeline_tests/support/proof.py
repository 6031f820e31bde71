"""What `pytest -m chaos` prints at its end: what was proven, in counts.

Belongs here: how a test says it and how it is shown, whatever captures output and wherever tests run. Must not be here:
any test.

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
