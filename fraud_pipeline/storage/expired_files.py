"""Files that pile up by one a day or one a training, and are of no use after a while.

Belongs here: removing those. Must not be here: how long they are kept (`settings.py`).
"""

from pathlib import Path

import pandas as pd


def remove_expired_files(directory: Path, *, before: pd.Timestamp) -> int:
    """Remove files in a directory, if it exists, that were last written before that instant; returns their number."""
    old = [path for path in directory.glob("*") if path.is_file() and path.stat().st_mtime < before.timestamp()]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)
