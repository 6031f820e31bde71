"""Backups and keys as in docs/how-to, on a real PostgreSQL, a busy SQLite file and with real tokens."""

import json
import shlex
import shutil
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from fraud_pipeline.cli.main import main
from fraud_pipeline.database import Database
from fraud_pipeline.database.tables import METADATA
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.promotion.published_model import publish, published_version
from fraud_pipeline.schema.transactions import now_microseconds
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.deployment import ROOT, Postgres, make_env, postgres_with_passwords, read_compose
from fraud_pipeline_tests.support.streams import transactions
from serving.auth.keys import KeyFileError, KeySet, create_keys, open_keys, publish_keys, rotate_keys
from serving.auth.tokens import TokenVerifier, UnauthorizedError, issue_token, issue_token_for

DEPLOY: Final = ROOT / "deploy"


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("secrets") / ".env"
    make_env(path)
    return read_compose(path)


class Host:
    """A machine with the containers' PostgreSQL and volumes, and a `docker` that runs a container's command on them."""

    def __init__(self, home: Path, postgres: Postgres, compose: dict[str, Any]) -> None:
        self.home = home
        self.volumes = {
            "/var/lib/mlflow": home / "mlflow",
            "/var/lib/fraud": home / "serving",
            "/var/lib/keys": home / "keys",
        }
        self.log = home / "docker.log"
        for directory in (*self.volumes.values(), home / "bin"):
            directory.mkdir(parents=True)
        postgres.make_databases(compose["services"]["postgres"]["environment"])
        password = compose["services"]["postgres"]["environment"]["FRAUD_DATABASE_PASSWORD"]
        self.database_url = f"postgresql://fraud:{password}@{postgres.address}/fraud"
        variables = [f"export {name}={shlex.quote(value)}" for name, value in postgres.by_socket.items()]
        places = " ".join(f"-e 's#{volume}#{local}#'" for volume, local in self.volumes.items())
        docker = home / "bin" / "docker"
        docker.write_text(
            "\n".join(
                [
                    "#!/bin/sh",
                    *variables,
                    f'echo "$@" >>{self.log}',
                    'case "$*" in',
                    '"compose exec -T postgres "*) shift 4; exec "$@" ;;',
                    '"compose run --rm -T --no-deps "*) shift 6; exec $(echo "$@" | sed ' + places + ") ;;",
                    "compose\\ stop | compose\\ up\\ *) exit 0 ;;",
                    "*) exit 125 ;;",
                    "esac",
                ]
            )
        )
        docker.chmod(0o755)

    def run(self, script: str, argument: Path) -> "subprocess.CompletedProcess[str]":
        """A script of deploy/ on this machine."""
        environment = {"PATH": f"{self.home / 'bin'}:/usr/bin:/bin"}
        command = [str(DEPLOY / script), str(argument)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def rows(self) -> dict[str, list[Any]]:
        """All rows of the database of decisions."""
        database = Database(self.database_url)
        with closing(database), database.transaction(read_only=True) as connection:
            return {
                table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
                for table in METADATA.sorted_tables
            }


def score(database: Database, *, count: int, prefix: str) -> None:
    """Real decisions with their history and alerts."""
    scorer = Scorer(database=database, champion=lambda: None)
    scorer.score(transactions(count, customers=20, end=now_microseconds(), prefix=prefix))


@pytest.mark.usefixtures("postgres_url")  # the common directory for locks of this process's servers
class TestPostgres:
    @pytest.fixture
    def host(self, tmp_path: Path, compose: dict[str, Any], trained: TrainedModel) -> Iterator[Host]:
        """A machine with decisions, a champion and keys."""
        with postgres_with_passwords() as postgres:
            host = Host(tmp_path / "host", postgres, compose)
            database = Database(host.database_url, statement_timeout=timedelta(seconds=30))
            database.upgrade()
            score(database, count=60, prefix="before")
            database.close()
            trained.model.save(tmp_path / "trained")
            publish(tmp_path / "trained", link=host.volumes["/var/lib/fraud"] / "champion", version=4)
            create_keys(host.volumes["/var/lib/keys"] / "keys.json")
            (host.volumes["/var/lib/mlflow"] / "artifact").write_text("a model")
            yield host

    def test_a_restored_machine_continues_where_the_old_one_stopped(
        self, host: Host, compose: dict[str, Any], tmp_path: Path
    ) -> None:
        done = host.run("backup.sh", tmp_path / "backup")
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE((tmp_path / "backup" / "fraud.dump").stat().st_mode) == 0o600
        with postgres_with_passwords() as postgres:
            other = Host(tmp_path / "other", postgres, compose)
            done = other.run("restore.sh", tmp_path / "backup")
            assert done.returncode == 0, done.stderr
            rows = other.rows()
            assert rows == host.rows()
            assert len(rows["decisions"]) == 60
            serving = other.volumes["/var/lib/fraud"]
            assert published_version(serving / "champion") == published_version(
                host.volumes["/var/lib/fraud"] / "champion"
            )
            keys = other.volumes["/var/lib/keys"] / "keys.json"
            assert stat.S_IMODE(keys.stat().st_mode) == 0o600
            assert keys.read_bytes() == (host.volumes["/var/lib/keys"] / "keys.json").read_bytes()
            assert (other.volumes["/var/lib/mlflow"] / "artifact").read_text() == "a model"
            # The tables belong to their own user again, who can go on.
            database = Database(other.database_url)
            database.check_revision()
            score(database, count=5, prefix="after")
            database.close()

    def test_a_restore_stops_the_services_and_removes_rows_after_the_backup(self, host: Host, tmp_path: Path) -> None:
        assert host.run("backup.sh", tmp_path / "backup").returncode == 0
        before = host.rows()
        database = Database(host.database_url)
        score(database, count=7, prefix="later")
        with database.transaction() as connection:
            connection.exec_driver_sql("CREATE TABLE of_a_later_release (number bigint)")
            connection.exec_driver_sql("CREATE SCHEMA of_a_later_release")
        database.close()
        assert host.rows() != before
        host.log.unlink()
        done = host.run("restore.sh", tmp_path / "backup")
        assert done.returncode == 0, done.stderr
        assert host.rows() == before
        with closing(Database(host.database_url)) as database, database.transaction(read_only=True) as connection:
            assert not sa.inspect(connection).has_table("of_a_later_release")
            assert "of_a_later_release" not in sa.inspect(connection).get_schema_names()
        lines = host.log.read_text().splitlines()
        assert lines[:2] == ["compose stop", "compose up --detach --wait postgres"]
        assert lines[-1] == "compose up --detach"

    def test_a_truncated_dump_leaves_the_database_unchanged(self, host: Host, tmp_path: Path) -> None:
        """Its checksum is right, because `backup.sh` wrote no more of it."""
        backup = tmp_path / "backup"
        assert host.run("backup.sh", backup).returncode == 0
        dump = backup / "fraud.dump"
        dump.write_bytes(dump.read_bytes()[: dump.stat().st_size // 2])
        sums = subprocess.run(["sha256sum", dump.name], cwd=backup, check=True, capture_output=True).stdout
        (backup / "SHA256SUMS").write_bytes(sums)
        before = host.rows()
        host.log.unlink()
        done = host.run("restore.sh", backup)
        assert done.returncode != 0
        assert "end of file" in done.stderr
        assert host.rows() == before
        assert host.log.read_text().splitlines()[-1] != "compose up --detach", "nothing is started"

    @pytest.mark.parametrize("file", ["fraud.dump", "SHA256SUMS"])
    def test_a_damaged_or_unfinished_backup_is_refused_before_anything_stops(
        self, host: Host, tmp_path: Path, file: str
    ) -> None:
        assert host.run("backup.sh", tmp_path / "backup").returncode == 0
        host.log.unlink()
        if file == "SHA256SUMS":
            (tmp_path / "backup" / file).unlink()
        else:
            with (tmp_path / "backup" / file).open("r+b") as dump:
                dump.seek(100)
                dump.write(b"!!!!")
        assert host.run("restore.sh", tmp_path / "backup").returncode != 0
        assert not host.log.exists()

    def test_a_backup_never_replaces_another(self, host: Host, tmp_path: Path) -> None:
        (tmp_path / "backup").mkdir()
        assert host.run("backup.sh", tmp_path / "backup").returncode != 0
        assert not list((tmp_path / "backup").iterdir())


class TestSqlite:
    def test_a_copy_made_during_writes_is_complete(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
        settings, stop = Settings(home=tmp_path), threading.Event()
        database = Database(settings.database, statement_timeout=timedelta(seconds=30))
        database.upgrade()
        score(database, count=50, prefix="first")

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                score(database, count=5, prefix=f"{number}-")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert main(["backup", str(tmp_path / "copy.db")]) == 0
        finally:
            stop.set()
            writer.join()
        assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
        with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            (decisions,) = copy.execute("SELECT count(*) FROM decisions").fetchone()
            (events,) = copy.execute("SELECT count(*) FROM transactions").fetchone()
        # A micro-batch is in it as a whole or not at all.
        assert decisions == events >= 50
        assert decisions % 5 == 0
        restored = tmp_path / "restored"
        restored.mkdir()
        shutil.copy(tmp_path / "copy.db", restored / Path(settings.database).name)
        again = Database(Settings(home=restored).database)
        again.check_revision()
        again.close()
        database.close()
        assert main(["backup", str(tmp_path / "copy.db")]) == 1
        expected = f"{tmp_path / 'copy.db'}: something is there already, and is not replaced: name another path"
        assert expected in capsys.readouterr().err

    def test_postgresql_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
        monkeypatch.setenv("FRAUD_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        assert main(["backup", str(tmp_path / "copy.db")]) == 1
        assert "deploy/backup.sh" in capsys.readouterr().err
        assert not (tmp_path / "copy.db").exists()


class TestPublicKeys:
    """A service that only verifies tokens has the public keys, which follow the rotation."""

    @pytest.fixture
    def settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
        (tmp_path / "keys").mkdir()
        (tmp_path / "public").mkdir()
        monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "keys"))
        monkeypatch.setenv("FRAUD_PUBLIC_KEYS", str(tmp_path / "public" / "keys.json"))
        return Settings(home=tmp_path / "keys")

    def token(self, settings: Settings) -> bytes:
        made = issue_token_for(settings, subject="a", scopes=["score"], lifetime=timedelta(hours=1))
        return f"Bearer {made}".encode()

    def test_a_service_that_has_them_verifies_and_cannot_sign(self, settings: Settings) -> None:
        token = self.token(settings)
        assert settings.public_keys is not None
        assert '"d"' not in settings.public_keys.read_text()
        service = settings.model_copy(update={"jwt_keys": settings.public_keys, "public_keys": None})
        verifier = TokenVerifier(open_keys(service), issuer=service.jwt_issuer, audience=service.jwt_audience)
        assert verifier.verify(token).subject == "a"
        with pytest.raises(KeyFileError, match="public keys only"):
            self.token(service)

    def test_they_follow_a_rotation(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        old = self.token(settings)
        assert settings.public_keys is not None
        verifier = TokenVerifier(
            KeySet(settings.public_keys, check_every=0), issuer=settings.jwt_issuer, audience=settings.jwt_audience
        )
        assert main(["rotate-keys", "--keep", "0"]) == 0
        assert "signs from now on" in capsys.readouterr().out
        assert verifier.verify(self.token(settings)).subject == "a"
        with pytest.raises(UnauthorizedError):
            verifier.verify(old)

    def test_a_shared_secret_has_no_public_half(self, settings: Settings) -> None:
        secret = {"kid": "1", "kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}
        settings.keys_file.write_text(json.dumps({"keys": [secret]}))
        settings.keys_file.chmod(0o600)
        assert settings.public_keys is not None
        with pytest.raises(KeyFileError, match="no public half"):
            publish_keys(settings.keys_file, settings.public_keys)
        assert not settings.public_keys.exists()


class TestKeys:
    """A running service rereads its file; here it does so at once."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        create_keys(tmp_path / "keys.json")
        return tmp_path / "keys.json"

    def token(self, keys: KeySet) -> bytes:
        made = issue_token(keys, subject="a", scopes=["score"], lifetime=timedelta(hours=1), issuer="i", audience="o")
        return f"Bearer {made}".encode()

    def test_old_tokens_are_valid_until_their_key_is_removed(self, file: Path) -> None:
        issuing, verifying = KeySet(file, check_every=0), KeySet(file, check_every=0)
        verifier = TokenVerifier(verifying, issuer="i", audience="o")
        old = self.token(issuing)
        assert verifier.verify(old).subject == "a"

        rotate_keys(file)
        issuing.refresh()
        new = self.token(issuing)
        assert new.split(b".")[0] != old.split(b".")[0], "another key signs"
        assert verifier.verify(new).subject == verifier.verify(old).subject == "a"

        rotate_keys(file, keep=1)
        assert verifier.verify(new).subject == "a"
        with pytest.raises(UnauthorizedError):
            verifier.verify(old)

    def test_a_key_that_leaked_is_gone_at_once(self, file: Path) -> None:
        verifier = TokenVerifier(KeySet(file, check_every=0), issuer="i", audience="o")
        stolen = self.token(KeySet(file))
        assert verifier.verify(stolen).subject == "a"
        rotate_keys(file, keep=0)
        with pytest.raises(UnauthorizedError):
            verifier.verify(stolen)

    def test_the_file_stays_its_owners_alone_and_is_never_half_written(self, file: Path) -> None:
        rotate_keys(file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert list(file.parent.iterdir()) == [file]
        file.write_text("{")
        with pytest.raises(KeyFileError):
            rotate_keys(file)
        assert file.read_text() == "{"

    def test_the_command(self, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("FRAUD_HOME", str(file.parent))
        assert main(["rotate-keys"]) == 0
        kid = next(iter(KeySet(file)._keys))
        assert f"Key {kid} signs from now on" in capsys.readouterr().out
