"""The location of a bank's data: a path of this machine, the URL of an object store, or that of a database.

Belongs here: recognising one. Must not be here: opening one (`storage/object_store.py`).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraud_pipeline.host.local_paths import local_path

# As a path, `s3://bucket` has lost one of its slashes.
_OBJECT_STORE: Final = re.compile(r"(s3|gs|az):/+(.*)", re.DOTALL)
_OPTIONS: Final = re.compile(r"\?[^/]*=")
_DATABASE: Final = re.compile(r"(?P<driver>[a-z][a-z0-9_+]*)://(?P<rest>.*)", re.DOTALL)
_SECRET: Final = re.compile(r"[^/?]*:[^/?]*@|[?&][^=&]*(password|passwd|pwd|secret|token)[^=&]*=", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class DataUrl:
    """The URL of a file, a directory or a pattern in S3, Google Cloud Storage or Azure: scheme, bucket and key."""

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"

    @property
    def path(self) -> str:
        """Bucket and key, without the scheme."""
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    @property
    def name(self) -> str:
        """The last step of the key, or the bucket."""
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """The suffix of the name, with its dot."""
        return Path(self.name).suffix

    def resolve(self) -> "DataUrl":
        """The URL itself, which is absolute; paths have a method of this name, too."""
        return self


DataLocation = Path | DataUrl


def below(location: DataLocation, relative: str) -> DataLocation:
    """The location of a relative path below a directory."""
    if isinstance(location, DataUrl):
        return DataUrl(location.scheme, location.bucket, f"{location.key}/{relative}".lstrip("/"))
    return location / relative


def data_location(text: "str | DataLocation") -> DataLocation:
    """Convert a text to a location. Raises ValueError for other URLs, and for secrets in one; it never quotes them."""
    if isinstance(text, DataUrl):
        return text
    url = _OBJECT_STORE.match(str(text))
    if not url:
        try:
            return local_path(text)
        except ValueError as error:
            raise ValueError(f"{error}; transactions may also be at s3://, gs:// or az://") from None
    scheme, rest = url[1], url[2].strip("/")
    bucket, _, key = rest.partition("/")
    if "@" in bucket or _OPTIONS.search(rest):
        raise ValueError(
            f"this {scheme}:// URL holds credentials or options, which would be stored with it: remove them, and set "
            "them in the environment, such as AWS_ACCESS_KEY_ID or AZURE_STORAGE_SAS_TOKEN"
        )
    if not bucket or re.search(r"[*?\[\]]", bucket):
        raise ValueError(f"a {scheme}:// URL begins with the name of one bucket: write {scheme}://BUCKET/PATH")
    return DataUrl(scheme, bucket, key)


def database_url(text: str) -> str:
    """The URL of a database as it is stored: without a password, and absolute. Raises ValueError; never quotes it."""
    url = _DATABASE.fullmatch(text.strip())
    if not url:
        raise ValueError("this is no URL of a database: write postgresql://USER@HOST:5432/DATABASE or sqlite:///FILE")
    if _SECRET.match(url["rest"]) or _SECRET.search(url["rest"]):
        raise ValueError(
            "the URL holds a password or another secret, which would be stored with it: remove it, and set the "
            "environment variable FRAUD_DATA_PASSWORD"
        )
    if url["driver"].startswith("sqlite") and url["rest"].startswith("/"):
        # `sqlite:///bank.db` is a file of the working directory, which other commands do not share.
        return f"{url['driver']}:///{Path(url['rest'][1:]).resolve()}"
    return text.strip()
