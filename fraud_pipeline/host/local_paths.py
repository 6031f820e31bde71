"""Paths of this machine, told from URLs.

Belongs here: what is a path. Must not be here: opening one.
"""

import re
from pathlib import Path
from typing import Final

# As a path, `s3://bucket` has lost one of its slashes. One letter and a colon is a drive.
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def local_path(text: str | Path) -> Path:
    """A path of this machine. Raises ValueError for a URL, which would pass for a directory of an odd name."""
    if url := _URL.match(str(text)):
        raise ValueError(
            f"a path that begins with {url[1]}:// is a URL, and only files of this machine are read and written here: "
            "copy it, or mount it, and give its path"
        )
    return Path(text)
