"""Local paths, distinguished from URLs.

Belongs here: recognising a path. Must not be here: opening one.
"""

import re
from pathlib import Path
from typing import Final

# As a path, `s3://bucket` has lost one of its slashes. One letter and a colon is a drive.
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def local_path(text: str | Path) -> Path:
    """Convert a text to a local path. Raises ValueError for a URL, which would otherwise name a local directory."""
    if url := _URL.match(str(text)):
        raise ValueError(
            f"a path that begins with {url[1]}:// is a URL, and only files of this machine are read and written here: "
            "copy it, or mount it, and give its path"
        )
    return Path(text)
