"""An S3 server, and files in it.

Must not be here: assertions about files.
"""

import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from pyarrow import fs

from fraud_pipeline_tests.support.services import check_may_start
from fraud_pipeline_tests.support.waiting import until

_REGION = "eu-central-1"
_KEY = "testing"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server by its address."""

    address: str

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which S3's tools find it."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_REGION": _REGION,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _KEY,
        }

    def new_bucket(self) -> str:
        """Make a bucket; its URL."""
        name = f"bank-{uuid.uuid4().hex}"
        self._store().create_dir(name)
        return f"s3://{name}"

    def upload(self, file: Path, url: str) -> None:
        """Copy a file, or a directory with all that is in it."""
        target = url.removeprefix("s3://")
        fs.copy_files(str(file), target, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self._store())

    @contextmanager
    def checking_credentials(self) -> Iterator[None]:
        """Accept only known credentials within the block, of which there are none."""
        self._post("reset-auth", b"0")
        try:
            yield
        finally:
            self._post("reset-auth", b"1e9")

    def _post(self, action: str, body: bytes) -> None:
        httpx.post(f"{self.address}/moto-api/{action}", content=body).raise_for_status()

    def _store(self) -> fs.S3FileSystem:
        return fs.S3FileSystem(
            access_key=_KEY,
            secret_key=_KEY,
            region=_REGION,
            endpoint_override=self.address,
            allow_bucket_creation=True,
        )


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """An S3 server in a process of its own, stopped afterwards."""
    check_may_start("S3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: httpx.get(f"{address}/moto-api/").is_success, what="the S3 server")
        yield S3Server(address)
    finally:
        process.terminate()
        process.wait()
