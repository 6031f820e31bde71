"""Files of this machine and of object stores (S3, Google Cloud Storage, Azure), opened alike.

Belongs here: connections, listings, errors of a store. Must not be here: the content of files.
Credentials come from the environment, by the names that each store's own tools read.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import fs

from fraud_pipeline.host.data_location import DataLocation, DataUrl

CREDENTIALS: Final[Mapping[str, str]] = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (AWS_PROFILE) or a role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}
_PLACES: Final[Mapping[str, str]] = {
    "s3": "AWS_ENDPOINT_URL, AWS_REGION and the network",
    "gs": "the network",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and the network",
}
_SECONDS: Final = 10
_NO_BUCKET: Final = re.compile(
    r"NO_SUCH_BUCKET|NoSuchBucket|ContainerNotFound|bucket does not exist|NOT_FOUND", re.IGNORECASE
)
_REFUSED: Final = re.compile(
    r"ACCESS_DENIED|ACCESS_KEY|FORBIDDEN|SIGNATURE|TOKEN|CREDENTIAL|PERMISSION_DENIED|UNAUTHENTICATED|Authori[sz]ation"
    r"|HTTP status 40[13]|anonymous",
    re.IGNORECASE,
)
_UNREACHABLE: Final = re.compile(r"NETWORK|CONNECT|UNAVAILABLE|resolve host|TIMEOUT|timed out", re.IGNORECASE)
_OF_A_STORE: Final = re.compile(r"AWS Error|google::cloud|Azure", re.IGNORECASE)


class ObjectStoreError(OSError):
    """A store cannot be used; the message says where, what is wrong, and what to do."""


def open_file(location: DataLocation) -> pa.NativeFile:
    """Open a file for reading at any place. Raises OSError, and ObjectStoreError for a store that cannot be used."""
    if isinstance(location, Path):
        return pa.OSFile(str(location))
    with translated(location):
        return filesystem(location).open_input_file(location.path)


def info_of(url: DataUrl) -> fs.FileInfo:
    """Whether a URL is a file, a directory, or nothing; a file's size and time."""
    with translated(url):
        return filesystem(url).get_file_info(url.path)


def files_below(url: DataUrl) -> list[fs.FileInfo]:
    """Every file below a directory, in order of its path."""
    with translated(url):
        try:
            infos = filesystem(url).get_file_info(fs.FileSelector(url.path, recursive=True))
        except FileNotFoundError:
            return []
    # Some tools mark a directory by an empty object with its name.
    files = [info for info in infos if info.type == fs.FileType.File and not info.path.endswith("/")]
    return sorted(files, key=lambda info: str(info.path))


def filesystem(url: DataUrl) -> fs.FileSystem:
    """The store of a URL, with the credentials and the address that the environment gives now."""
    environment = tuple((name, value) for name in _VARIABLES if (value := os.environ.get(name)))
    return _filesystem(url.scheme, url.bucket, environment)


@contextmanager
def translated(url: DataUrl) -> Iterator[None]:
    """Make errors of the store within the block say problem and remedy."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise ObjectStoreError(store_problem(url, error) or f"{url}: cannot be read ({type(error).__name__})") from None


def store_problem(location: DataLocation, error: Exception) -> str:
    """Problem and remedy of a store's error; empty for errors of a file's content. It quotes no text of the error."""
    text = str(error)
    if isinstance(error, ObjectStoreError):
        return text
    if isinstance(location, Path) or not _OF_A_STORE.search(text):
        return ""
    scheme = location.scheme
    if _NO_BUCKET.search(text):
        return f"{location}: there is no bucket named {location.bucket}: check its name"
    if _REFUSED.search(text):
        return (
            f"{location}: the store does not accept the credentials, or they may not read this: set "
            f"{CREDENTIALS[scheme]}, with the right to list and to read"
        )
    if _UNREACHABLE.search(text):
        return f"{location}: the store cannot be reached: check {_PLACES[scheme]}"
    code = re.search(r"AWS Error (\w+)", text)
    return f"{location}: the store answers with an error{f' ({code[1]})' if code else ''}: try again later"


_VARIABLES: Final = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_SKIP_SIGNATURE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
)


@lru_cache(maxsize=16)
def _filesystem(scheme: str, bucket: str, environment: tuple[tuple[str, str], ...]) -> fs.FileSystem:
    given = dict(environment)
    url = DataUrl(scheme, bucket, "")
    with translated(url):
        match scheme:
            case "s3":
                return _s3(bucket, given)
            case "gs":
                return fs.GcsFileSystem()
            case _:
                if "AZURE_STORAGE_ACCOUNT_NAME" not in given:
                    raise ObjectStoreError(f"{url}: no storage account is named: set {CREDENTIALS[scheme]}")
                return fs.AzureFileSystem(
                    given["AZURE_STORAGE_ACCOUNT_NAME"],
                    account_key=given.get("AZURE_STORAGE_ACCOUNT_KEY"),
                    sas_token=given.get("AZURE_STORAGE_SAS_TOKEN"),
                )


def _s3(bucket: str, given: Mapping[str, str]) -> fs.FileSystem:
    endpoint = given.get("AWS_ENDPOINT_URL_S3") or given.get("AWS_ENDPOINT_URL")
    region = given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION")
    if not region:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        anonymous=given.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"),
        connect_timeout=_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
    )
