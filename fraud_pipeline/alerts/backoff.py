"""The pause after failures in a row."""

from datetime import timedelta
from typing import Final

FIRST_PAUSE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(minutes=10)


def pause_after(failures: int) -> timedelta:
    """The pause after this many failures in a row: none, then twice as long each time, up to the longest."""
    return min(FIRST_PAUSE * 2 ** min(failures - 1, 10), LONGEST_PAUSE) if failures else timedelta(0)
