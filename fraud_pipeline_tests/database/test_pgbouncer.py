"""PgBouncer in transaction mode, where each transaction may run in another session."""

import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa

from fraud_pipeline.cli.doctor import check_database
from fraud_pipeline.cli.main import main
from fraud_pipeline.database import Database, DatabaseUnavailableError
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.bad_inputs import transaction_with_id
from fraud_pipeline_tests.support.services import check_may_start, free_port, start, stop
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until

PROGRAM: Final = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
# Fewer sessions than clients, so that a client meets another one's session all the time.
SESSIONS: Final = 3


@pytest.fixture
def pooled_url(empty_postgres_url: str) -> Iterator[str]:
    """An empty database behind PgBouncer, as its package configures it but for the mode."""
    if PROGRAM is None:
        pytest.skip("pgbouncer is not installed")
    url = sa.make_url(empty_postgres_url)
    with pgbouncer(url) as port:
        pooled = url.set(host="127.0.0.1", port=port, query={})
        yield pooled.render_as_string(hide_password=False)


@contextmanager
def pgbouncer(url: sa.URL) -> Iterator[int]:
    """PgBouncer before this server; its port."""
    host, port = str(url.query.get("host") or url.host), free_port()
    directory = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    # PgBouncer refuses to run as root, and a private server accepts only its owner by socket.
    owner = Path(host if host.startswith("/") else "/").stat()
    command = [str(PROGRAM), "-q", str(directory / "pgbouncer.ini")]
    if os.getuid() == 0:
        user = owner.st_uid or 65_534
        os.chown(directory, user, -1)
        command = ["setpriv", f"--reuid={user}", f"--regid={owner.st_gid or 65_534}", "--clear-groups", *command]
    password = f" password={url.password}" if url.password else ""
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={host} port={url.port or 5432} user={url.username}{password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"logfile = {directory}/log\npool_mode = transaction\ndefault_pool_size = {SESSIONS}\n"
    )
    check_may_start("PgBouncer")
    process = subprocess.Popen(command, cwd=directory)
    try:
        until(lambda: f"127.0.0.1:{port}" in (directory / "log").read_text() if (directory / "log").exists() else False)
        yield port
    finally:
        process.terminate()
        process.wait(LIMIT_SECONDS)
        shutil.rmtree(directory)


def test_commands_and_1500_requests_to_two_workers_go_through(
    pooled_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_HOME", str(home))
    monkeypatch.setenv("FRAUD_DATABASE_URL", pooled_url)
    assert main(["migrate"]) == 0
    assert check_database(Settings(home=home, database_url=pooled_url)).state == "ok"
    server = start(home, FRAUD_DATABASE_URL=pooled_url, FRAUD_HTTP_WORKERS="2")

    def send_requests(client_number: int) -> Counter[int]:
        with server.client() as client:
            bodies = (
                transaction_with_id(f"p-{client_number}-{number}", customer_id=f"c-{number % 300}")
                for number in range(125)
            )
            return Counter(client.post("/score", json=body).status_code for body in bodies)

    try:
        with ThreadPoolExecutor(12) as clients:
            statuses = sum(clients.map(send_requests, range(12)), Counter[int]())
    finally:
        stop(server)
    assert statuses == {200: 1_500}


def test_each_transaction_brings_its_time_limit_and_leaves_none_behind(pooled_url: str) -> None:
    """The next client of a session keeps its own limit, and our slow statement is cancelled."""
    with (
        closing(Database(pooled_url, statement_timeout=timedelta(seconds=0.3))) as quick,
        closing(Database(pooled_url, statement_timeout=timedelta(seconds=30))) as patient,
    ):
        for _ in range(2 * SESSIONS):
            with pytest.raises(DatabaseUnavailableError, match="took too long"), quick.transaction() as connection:
                connection.execute(sa.text("SELECT pg_sleep(5)"))
            with patient.transaction() as connection:
                assert connection.execute(sa.text("SHOW statement_timeout")).scalar_one() == "30s"
