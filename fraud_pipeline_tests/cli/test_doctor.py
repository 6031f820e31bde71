"""`fraud-detect doctor`: each part healthy and broken, on real servers, and no secret in a finding."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fraud_pipeline.cli.doctor import (
    STALE_DAYS,
    Diagnosis,
    check_broker,
    check_champion,
    check_clock,
    check_database,
    check_disk,
    check_keys,
    check_registry,
    check_settings,
)
from fraud_pipeline.cli.main import main
from fraud_pipeline.database import Database
from fraud_pipeline.ingest.source_choice import CHOICE_FILE
from fraud_pipeline.messaging.topics import KafkaSettings, ensure_topics
from fraud_pipeline.modeling.model_directory import BOOSTER_FILE
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.promotion.registry import Registry
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from serving.auth.keys import create_keys

SECRET = "hidden-from-everybody"  # noqa: S105  # must not appear in a finding


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty home."""
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    # Requests of the doctor to MLflow must end with the test.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    return Settings(home=tmp_path)


def nobody_listens() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def is_(finding: Diagnosis, state: str, *words: str) -> bool:
    assert SECRET not in finding.finding
    return finding.state == state and all(word in finding.finding for word in words)


class TestSettings:
    def test_good_ones(self, settings: Settings) -> None:
        assert is_(check_settings({"FRAUD_HOME": "x", "FRAUD_KAFKA_PARTITIONS": "3"}), "ok")

    def test_one_out_of_its_range_is_named(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FRAUD_HTTP_WORKERS", "0")
        assert is_(check_settings({}), "fail", "FRAUD_HTTP_WORKERS in the environment", "greater than or equal to 1")

    def test_what_does_not_go_together_is_told_without_values(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FRAUD_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
        monkeypatch.setenv("FRAUD_KAFKA_SASL_PASSWORD", SECRET)
        assert is_(check_settings({}), "fail", "FRAUD_KAFKA_SASL_USERNAME")

    def test_a_damaged_choice_of_the_source_is_named_with_the_remedy(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FRAUD_HOME", str(settings.home))
        (settings.home / CHOICE_FILE).write_text("{")
        assert is_(check_settings({}), "fail", CHOICE_FILE, "choose the source again")

    def test_a_misspelt_one_is_corrected(self, settings: Settings) -> None:
        assert is_(check_settings({"FRAUD_DATABASE_ULR": SECRET}), "warn", "did you mean FRAUD_DATABASE_URL?")


class TestDisk:
    def test_room(self, settings: Settings) -> None:
        assert is_(check_disk(settings, least=1), "ok", "GB are free")

    def test_no_room(self, settings: Settings) -> None:
        assert is_(check_disk(settings, least=10**18), "fail", "make room")


class TestDatabase:
    def test_none_yet_is_not_made(self, settings: Settings) -> None:
        assert is_(check_database(settings), "ok", "not used here")
        assert not list(settings.home.iterdir())

    def test_of_this_release(self, settings: Settings, database: Database, database_url: str) -> None:
        assert is_(check_database(settings.model_copy(update={"database_url": database_url})), "ok")

    def test_of_an_older_release(self, settings: Settings, database: Database, database_url: str) -> None:
        database.downgrade("0001")
        diagnosis = check_database(settings.model_copy(update={"database_url": database_url}))
        assert is_(diagnosis, "fail", "at revision 0001", "fraud-detect migrate")

    def test_away(self, settings: Settings) -> None:
        url = f"postgresql://fraud:{SECRET}@{nobody_listens()}/fraud"
        assert is_(check_database(settings.model_copy(update={"database_url": url})), "fail", "does not answer")


class TestBroker:
    def test_away_matters_where_one_was_named(self) -> None:
        named = KafkaSettings(bootstrap_servers=nobody_listens())
        assert is_(check_broker(named), "fail", "no Kafka broker", named.bootstrap_servers)
        unnamed = KafkaSettings.model_construct(_fields_set=set(), **named.model_dump())
        assert is_(check_broker(unnamed), "ok", "not used here")

    def test_topics_are_missed_until_they_are_there(self, broker: Broker) -> None:
        kafka = topics_of_our_own(broker, partitions=3)
        assert is_(check_broker(kafka), "warn", kafka.dead_letter_topic, "fraud-detect consume")
        ensure_topics(kafka)
        assert is_(check_broker(kafka), "ok", "3 partitions")


# Warnings of MLflow and its dependencies about themselves.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
class TestRegistry:
    def test_none_here_is_not_made(self, settings: Settings) -> None:
        assert is_(check_registry(settings), "ok", "not used here")
        assert not list(settings.home.iterdir())

    def test_away(self, settings: Settings) -> None:
        uri = f"http://user:{SECRET}@{nobody_listens()}"
        assert is_(check_registry(settings.model_copy(update={"mlflow_tracking_uri": uri})), "fail", "does not answer")

    def test_its_champion_and_what_is_exported(self, settings: Settings, trained: TrainedModel) -> None:
        registry = Registry(
            tracking_uri=settings.tracking_uri,
            model_name=settings.model_name,
            artifact_directory=settings.artifact_directory,
        )
        experiment = registry.ensure_experiment(settings.model_name)
        assert is_(check_registry(settings), "warn", "has no champion")
        trained.model.save(settings.home / "trained")
        run = registry._client.create_run(experiment).info.run_id
        version = registry.register(settings.home / "trained", run_id=run, tags={}).version
        registry.decide(version, action="promote", reasons=["a test"])
        assert is_(check_registry(settings), "warn", "is not exported here")
        publish(settings.home / "trained", link=settings.champion_directory, version=version)
        assert is_(check_registry(settings), "ok", "champion v1 is exported")


class TestChampion:
    """One that was made six weeks after the end of the data that it learned from, as by default."""

    @pytest.fixture
    def made(self, trained: TrainedModel) -> datetime:
        return datetime.fromisoformat(str(trained.model.lineage["trained_to"])) + timedelta(days=STALE_DAYS + 1)

    @pytest.fixture
    def settings(self, settings: Settings, trained: TrainedModel, made: datetime) -> Settings:
        lineage = {**trained.model.lineage, "created_at": made.isoformat(timespec="seconds")}
        replace(trained.model, lineage=lineage).save(settings.home / "trained")
        publish(settings.home / "trained", link=settings.champion_directory, version=3)
        return settings

    def test_none(self, tmp_path: Path) -> None:
        assert is_(check_champion(Settings(home=tmp_path / "empty")), "warn", "rules decide")

    def test_whole_and_fresh(self, settings: Settings, made: datetime) -> None:
        fresh = check_champion(settings, now=(made + timedelta(days=5)).timestamp)
        assert is_(fresh, "ok", "v3", f"ended {STALE_DAYS + 6} days", "trained 5 days ago")

    def test_whole_and_old(self, settings: Settings, made: datetime) -> None:
        old = check_champion(settings, now=(made + timedelta(days=STALE_DAYS + 1)).timestamp)
        assert is_(old, "warn", f"trained {STALE_DAYS + 1} days ago", "retrain")

    def test_one_that_does_not_say_when_it_was_made(self, settings: Settings, trained: TrainedModel) -> None:
        trained.model.save(settings.home / "trained")
        publish(settings.home / "trained", link=settings.champion_directory, version=4)
        assert is_(check_champion(settings), "ok", "v4", "its age is unknown")

    def test_one_with_another_label_maturity_than_the_settings_here(
        self, settings: Settings, made: datetime, trained: TrainedModel
    ) -> None:
        """It is served with its own: people learn why the next model's features will differ, and nothing is wrong."""
        own = trained.model.feature_config.label_maturity
        now = (made + timedelta(days=5)).timestamp
        other = settings.model_copy(update={"label_maturity": own + timedelta(hours=12)})
        assert is_(check_champion(other, now=now), "ok", "label maturity: 14 days", "the settings", "14.5")
        same = settings.model_copy(update={"label_maturity": own})
        assert "label maturity" not in check_champion(same, now=now).finding

    @pytest.mark.parametrize("file", [BOOSTER_FILE, "model.json"])
    def test_a_changed_file(self, settings: Settings, file: str) -> None:
        path = settings.champion_directory / file
        path.write_bytes(path.read_bytes()[:-1] + b" ")
        assert is_(check_champion(settings), "fail", "cannot serve")


class TestKeys:
    def test_none_yet_are_not_made(self, settings: Settings) -> None:
        assert is_(check_keys(settings), "ok", "not used here")
        assert not settings.keys_file.exists()

    def test_only_their_owner_may_read_them(self, settings: Settings) -> None:
        create_keys(settings.keys_file)
        assert is_(check_keys(settings), "ok", "1 can be read")
        settings.keys_file.chmod(0o644)
        assert is_(check_keys(settings), "fail", "chmod 600")

    def test_a_damaged_file(self, settings: Settings) -> None:
        settings.keys_file.write_text(json.dumps({"keys": [{"kid": "1", "kty": "OKP", "d": SECRET}]}))
        settings.keys_file.chmod(0o600)
        assert is_(check_keys(settings), "fail", "damaged")

    def test_a_file_that_was_named_must_be_there(self, settings: Settings) -> None:
        named = settings.model_copy(update={"jwt_keys": settings.home / "other.json"})
        assert is_(check_keys(named), "fail", "does not exist")


class TestClock:
    @pytest.fixture
    def registry_uri(self) -> Iterator[str]:
        """Something that answers /health with the time, as MLflow does."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()

    def test_alone(self, settings: Settings) -> None:
        assert is_(check_clock(settings), "ok", "no other machine")

    @pytest.mark.parametrize(("ahead", "finding"), [(60, "s ahead of"), (-60, "s behind")])
    def test_against_the_database(self, settings: Settings, postgres_url: str, ahead: int, finding: str) -> None:
        with_database = settings.model_copy(update={"database_url": postgres_url})
        assert is_(check_clock(with_database), "ok", "the database's")
        assert is_(check_clock(with_database, now=lambda: time.time() + ahead), "fail", finding, "NTP")

    def test_against_the_registry(self, settings: Settings, registry_uri: str) -> None:
        with_registry = settings.model_copy(update={"mlflow_tracking_uri": registry_uri})
        assert is_(check_clock(with_registry), "ok", "the registry's")
        assert is_(check_clock(with_registry, now=lambda: time.time() - 60), "fail", "s behind", "NTP")


class TestCommand:
    def test_a_container_that_only_serves_has_nothing_to_warn_of(
        self, settings: Settings, trained: TrainedModel, empty_postgres_url: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The service's has a database, keys and an exported champion; broker and registry are not its business."""
        database = Database(empty_postgres_url)
        database.upgrade()
        database.close()
        trained.model.save(settings.home / "trained")
        publish(settings.home / "trained", link=settings.champion_directory, version=1)
        create_keys(settings.keys_file)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FRAUD_DATABASE_URL", empty_postgres_url)
            assert main(["doctor"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if not line.startswith("ok ")] == []
        unused = [line.split()[1] for line in lines if "not used here" in line]
        assert unused == ["broker", "registry", "days"]

    def test_warnings_are_no_failure(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        create_keys(settings.keys_file)
        assert main(["doctor"]) == 0
        lines = capsys.readouterr().out.splitlines()
        parts = ["settings", "disk", "database", "broker", "registry", "champion", "days", "keys", "clock"]
        assert [line.split()[1] for line in lines] == parts

    def test_one_failure_is(
        self, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create_keys(settings.keys_file)
        settings.keys_file.chmod(0o644)
        monkeypatch.setenv("FRAUD_DATABASE_URL", f"nonsense://fraud:{SECRET}@here/fraud")
        assert main(["doctor"]) == 1
        output = capsys.readouterr().out
        assert "fail keys" in output
        assert "fail database   FRAUD_DATABASE_URL begins with nonsense://" in output
        assert SECRET not in output

    def test_settings_that_cannot_be_read_are_all_there_is_to_say(
        self, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FRAUD_SEED", "seven")
        assert main(["doctor"]) == 1
        assert capsys.readouterr().out.startswith("fail settings")
