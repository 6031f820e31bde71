"""Alerts fire exactly when they should; rules and dashboards use metrics that exist."""

import importlib.util
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import yaml
from prometheus_client import generate_latest

from fraud_pipeline.policy.decisions import Decision
from fraud_pipeline.scoring.decision_record import Mode
from fraud_pipeline_tests.support.deployment import make_env, read_compose
from fraud_pipeline_tests.support.metrics_text import record_every_event, scoring_result
from fraud_pipeline_tests.support.prometheus import (
    DASHBOARDS,
    ROOT,
    RULES,
    Query,
    Sample,
    kept_labels,
    panels,
    program,
    queries,
    rules,
    samples,
    selected,
    selectors,
)
from serving.runtime.prometheus_metrics import Metrics, Stage
from serving.stream.consumer import Away
from serving.stream.consumer_metrics import StreamMetrics
from serving.stream.handler import BatchResult
from serving.stream.records import Partition

CONFIGURATION: Final = RULES.with_name("prometheus.yml")
CASES: Final = sorted(RULES.parent.glob("*_test.yml"))


@pytest.fixture(scope="module")
def exported() -> list[Sample]:
    """The metrics of service and consumer after every kind of event."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
        service, consumer = Metrics(), Metrics()
        stream = StreamMetrics.build(consumer.registry)
    for metrics in (service, consumer):
        record_every_event(metrics)
        for decision, mode in zip(get_args(Decision), get_args(Mode), strict=False):
            metrics.decided([scoring_result(decision, mode=mode)])
        for stage in get_args(Stage):
            metrics.stage(stage, 0.1)
    for status in (200, 503):
        service.answered(route="/score", status=status)
    service.refused("overloaded")
    stream.handled(BatchResult({}, decided=1, replayed=1, dead_letters=1, reports=1), seconds=0.1)
    stream.lag(Partition("transactions", 0), 5)
    for away in get_args(Away):
        stream.waiting(away)
    samples_ = samples(service.exposition()[0].decode(), job="service")
    return samples_ + samples(generate_latest(consumer.registry).decode(), job="consumer")


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [program("promtool"), *arguments]
    return subprocess.run(command, cwd=RULES.parent, capture_output=True, text=True, check=False)


class TestAlerts:
    def test_prometheus_accepts_its_files(self) -> None:
        done = promtool("check", "config", "--syntax-only", CONFIGURATION.name)
        assert done.returncode == 0, done.stdout + done.stderr
        done = promtool("check", "rules", RULES.name)
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.slow
    def test_each_fires_and_is_silent_as_its_cases_say(self) -> None:
        done = promtool("test", "rules", *(case.name for case in CASES))
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("wrong", "alert"),
        [
            (('outcome="dead_letter"', 'outcome="dead_letters"'), "DeadLetters"),
            (("stream_lag_records) > 1000", "stream_lag_records) > 800"), "count"),
            (("(fraud_breaker_state) > 0", "(fraud_breaker_state) == 2"), "BreakerOpen"),
        ],
    )
    def test_a_wrong_rule_fails_its_case(self, wrong: tuple[str, str], alert: str, tmp_path: Path) -> None:
        assert RULES.read_text().count(wrong[0]) == 1
        (tmp_path / RULES.name).write_text(RULES.read_text().replace(*wrong))
        cases = yaml.safe_load((RULES.parent / "alerts_test.yml").read_text())
        # The quick ones, and those of this alert.
        cases["tests"] = [case for case in cases["tests"] if alert in str(case)]
        (tmp_path / "cases.yml").write_text(yaml.safe_dump(cases))
        done = promtool("test", "rules", tmp_path / "cases.yml")
        assert done.returncode != 0
        assert alert in done.stdout + done.stderr

    def test_each_alert_has_a_firing_case_and_a_recipient(self) -> None:
        firing: Counter[str] = Counter()
        for case in CASES:
            for test in yaml.safe_load(case.read_text())["tests"]:
                firing.update(
                    alert_case["alertname"]
                    for alert_case in test.get("alert_rule_test", ())
                    if alert_case["exp_alerts"]
                )
        assert firing.keys() == {rule["alert"] for rule in rules()}
        assert {rule["labels"]["severity"] for rule in rules()} == {"page", "ticket"}

    def test_the_page_of_each_is_its_section_of_the_alarms_page(self) -> None:
        headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / "how-to" / "alarms.md").read_text(), re.MULTILINE)
        for rule in rules():
            assert rule["annotations"]["runbook_url"] == f"docs/how-to/alarms.md#{rule['alert'].lower()}"
            assert rule["alert"] in headings

    def test_what_is_scraped_is_where_the_containers_are(self, tmp_path: Path) -> None:
        make_env(tmp_path / ".env")
        services = read_compose(tmp_path / ".env")["services"]
        jobs = {job["job_name"]: job for job in yaml.safe_load(CONFIGURATION.read_text())["scrape_configs"]}
        assert jobs["service"]["static_configs"][0]["targets"] == ["service:8080"]
        assert "--port=8080" in services["service"]["command"]
        assert jobs["consumer"]["dns_sd_configs"] == [{"names": ["consumer"], "type": "A", "port": 9100}]
        assert "--metrics-port=9100" in services["consumer"]["command"]
        token = f"--out={jobs['service']['authorization']['credentials_file']}"
        assert token in services["metrics-token"]["command"]
        assert {job for query in queries() for job in re.findall(r'job="(\w+)"', query.text)} <= jobs.keys()


class TestQueries:
    @pytest.mark.parametrize("query", queries(), ids=lambda query: query.where)
    def test_asks_for_metrics_and_labels_that_exist(self, query: Query, exported: list[Sample]) -> None:
        selectors_ = selectors(query.text)
        assert selectors_
        labels: set[str] = set()
        for selector in selectors_:
            matching = selected(selector, exported)
            assert matching, f"nothing exports {selector.name}{selector.matchers}"
            labels.update(*(sample.labels for sample in matching))
        assert kept_labels(query.text) <= labels
        assert query.shown <= (kept_labels(query.text) or labels)

    def test_a_label_or_a_value_that_nobody_exports_is_found(self, exported: list[Sample]) -> None:
        assert not selected(selectors('fraud_stream_records_total{outcome="lost"}')[0], exported)
        assert not selected(selectors('fraud_stream_records_total{what="decided"}')[0], exported)
        assert not selected(selectors("fraud_records_total")[0], exported)

    def test_every_exported_metric_is_on_a_dashboard_or_in_an_alert(self, exported: list[Sample]) -> None:
        unused = {"fraud_replayed_answers", "fraud_conflicts", "fraud_breaker_changes"}
        queried = {_family(str(selector.name)) for query in queries() for selector in selectors(query.text)}
        assert {_family(sample.name) for sample in exported} - queried == unused


def _family(name: str) -> str:
    return re.sub(r"_(total|created|bucket|sum|count)$", "", name)


class TestDashboards:
    def test_the_files_are_what_the_program_writes(self) -> None:
        program_file = DASHBOARDS.parent / "dashboards.py"
        specification = importlib.util.spec_from_file_location("dashboards", program_file)
        assert specification is not None
        assert specification.loader is not None
        written: Any = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(written)
        assert {f"{name}.json" for name in written.DASHBOARDS} == {file.name for file in DASHBOARDS.iterdir()}
        for name in written.DASHBOARDS:
            assert (DASHBOARDS / f"{name}.json").read_text() == written.text(name), "run deploy/grafana/dashboards.py"

    def test_every_panel_has_a_description_and_none_overlap(self) -> None:
        taken: Counter[tuple[str, int, int]] = Counter()
        for file, panel in panels():
            assert panel["description"]
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
            taken.update((file, x, y) for x in columns for y in rows)
        assert set(taken.values()) == {1}

    def test_grafana_is_provisioned_with_dashboards_and_data_source(self, tmp_path: Path) -> None:
        make_env(tmp_path / ".env")
        compose = read_compose(tmp_path / ".env")
        mounts = {mount["target"]: mount["source"] for mount in compose["services"]["grafana"]["volumes"]}
        provisioning = Path(mounts["/etc/grafana/provisioning"])
        provider = yaml.safe_load((provisioning / "dashboards" / "fraud-detect.yml").read_text())["providers"][0]
        assert Path(mounts[provider["options"]["path"]]) == DASHBOARDS
        source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"][0]
        assert source["url"] == "http://prometheus:9090"
        used = {target["datasource"]["uid"] for _, panel in panels() for target in panel.get("targets", ())}
        assert used == {source["uid"]}
