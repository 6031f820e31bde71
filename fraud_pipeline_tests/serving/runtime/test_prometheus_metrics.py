"""Metrics count the events of all workers together, and never identify a customer."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import numpy as np
import pytest

from fraud_pipeline.policy.decisions import Decision
from fraud_pipeline.scoring.decision_record import Conflict
from fraud_pipeline_tests.support.metrics_text import (
    SOME_ID,
    metric_value,
    record_every_event,
    samples_by_name,
    scoring_result,
)
from serving.http.guard import PATHS
from serving.runtime.prometheus_metrics import Metrics

LABELS: Final = {
    "route",
    "status",
    "reason",
    "report",
    "stage",
    "decision",
    "decided_by",
    "mode",
    "breaker",
    "state",
    "version",
    "champion",
    "challenger",
}
ROUTES: Final = {path for _, path in PATHS}


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    return Metrics()


class TestNames:
    def test_every_label_is_of_a_closed_set(self, metrics: Metrics) -> None:
        collectors = set(metrics.registry._names_to_collectors.values())
        assert {label for collector in collectors for label in collector._labelnames} == LABELS  # type: ignore[attr-defined]

    def test_names_follow_the_conventions(self, metrics: Metrics) -> None:
        for family in metrics.registry.collect():
            assert re.fullmatch(r"fraud_[a-z_]+", family.name)
            assert family.documentation
            assert ("seconds" in family.name) == bool(re.search(r"duration|timestamp", family.name))

    def test_no_id_is_ever_a_label(self, metrics: Metrics) -> None:
        record_every_event(metrics)
        text = metrics.exposition()[0].decode()
        assert SOME_ID not in text
        assert "fraud_http_requests_total" in text


class TestDecisions:
    def test_new_decisions_are_counted_and_repeated_answers_apart(self, metrics: Metrics) -> None:
        metrics.decided(
            [
                scoring_result("block", probability=0.95),
                scoring_result("allow"),
                scoring_result("allow"),
                scoring_result("review", by="rules", mode="rules", probability=None),
                scoring_result("block", replayed=True),
                Conflict(SOME_ID),
            ]
        )
        assert metric_value(metrics, "fraud_decisions_total", "block", "model") == 1
        assert metric_value(metrics, "fraud_decisions_total", "allow", "model") == 2
        assert metric_value(metrics, "fraud_decisions_total", "review", "rules") == 1
        degraded = {labels: n for (name, labels), n in all_of(metrics) if name == "fraud_degraded_decisions_total"}
        assert degraded == {frozenset({"rules"}): 1, frozenset({"no_history"}): 0, frozenset({"fail_safe"}): 0}
        assert metric_value(metrics, "fraud_replayed_answers_total") == 1
        assert metric_value(metrics, "fraud_conflicts_total") == 1
        assert metric_value(metrics, "fraud_score_count") == 3
        assert metric_value(metrics, "fraud_micro_batch_rows_sum") == 6

    def test_disagreement_of_the_challenger_is_counted_by_pairs(self, metrics: Metrics) -> None:
        champion = np.array(["allow", "allow", "block"], object)
        metrics.shadowed(champion, np.array(["allow", "block", "block"], object))
        pairs = {labels: value for (name, labels), value in all_of(metrics) if name == "fraud_shadow_decisions_total"}
        assert pairs == {frozenset({"allow"}): 1, frozenset({"allow", "block"}): 1, frozenset({"block"}): 1}

    def test_an_old_version_no_longer_serves(self, metrics: Metrics) -> None:
        metrics.model_loaded("7", created_at=1_702_000_000, trained_to=1_700_000_000)
        metrics.model_loaded("8", created_at=1_702_086_400, trained_to=1_700_086_400)
        metrics.model_loaded("8", created_at=1_702_086_400, trained_to=1_700_086_400)
        assert metric_value(metrics, "fraud_model_info", "7") == 0
        assert metric_value(metrics, "fraud_model_info", "8") == 1
        assert metric_value(metrics, "fraud_model_trained_to_timestamp_seconds") == 1_700_086_400
        assert metric_value(metrics, "fraud_model_created_timestamp_seconds") == 1_702_086_400

    def test_what_alerts_count_is_there_before_anything_happens(self, metrics: Metrics) -> None:
        samples = dict(all_of(metrics))
        everything = get_args(Decision)
        by = {"model": everything, "rules": everything, "analyst_rule": everything, "fail_safe": ("allow", "review")}
        decisions = {frozenset({decision, who}) for who, several in by.items() for decision in several}
        decided = {labels: value for (name, labels), value in samples.items() if name == "fraud_decisions_total"}
        assert decided == dict.fromkeys(decisions, 0)
        for name, label in (("degraded_decisions", "rules"), ("refusals", "overloaded")):
            assert samples[f"fraud_{name}_total", frozenset({label})] == 0
        for name in ("blocks_demoted", "model_refusals", "rate_limit_storage_failures"):
            assert samples[f"fraud_{name}_total", frozenset()] == 0

    def test_a_report_that_nobody_looked_up_is_neither_red_nor_green(self, metrics: Metrics) -> None:
        assert not [name for (name, _), _ in all_of(metrics) if name == "fraud_report_red"]
        metrics.reported("drift", red=True)
        assert metric_value(metrics, "fraud_report_red", "drift") == 1
        metrics.reported("drift", red=False)
        assert metric_value(metrics, "fraud_report_red", "drift") == 0

    def test_every_breaker_is_told_from_the_start(self, metrics: Metrics) -> None:
        metrics.breaker_changed("model", "open")
        states = [metric_value(metrics, "fraud_breaker_state", name) for name in ("history", "model", "storage")]
        assert states == [0, 2, 0]


def all_of(metrics: Metrics) -> Iterator[tuple[tuple[str, frozenset[str]], float]]:
    yield from samples_by_name(metrics.exposition()[0].decode()).items()


WORKER: Final = """
import sys
import numpy as np
from serving.runtime.prometheus_metrics import Metrics

metrics = Metrics()
metrics.model_loaded(sys.argv[1], created_at=2 * float(sys.argv[1]), trained_to=float(sys.argv[1]))
metrics.reported("drift", red=sys.argv[2] == "open")
for _ in range(3):
    metrics.began()
    metrics.stage("model", 0.003)
metrics.refused("overloaded")
metrics.breaker_changed("history", sys.argv[2])
print("ready", flush=True)
sys.stdin.read()
"""


class TestWorkers:
    def test_workers_add_up_and_a_killed_one_says_nothing_about_now(
        self, tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, version, state],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for version, state in (("7", "open"), ("8", "closed"))
        ]
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "ready\n"
            monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
            assert metric_value(metrics, "fraud_http_requests_in_flight") == 6
            assert metric_value(metrics, "fraud_refusals_total", "overloaded") == 2
            assert metric_value(metrics, "fraud_stage_duration_seconds_count", "model") == 6
            assert metric_value(metrics, "fraud_breaker_state", "history") == 2
            assert metric_value(metrics, "fraud_model_info", "7") == metric_value(metrics, "fraud_model_info", "8") == 1
            assert metric_value(metrics, "fraud_model_trained_to_timestamp_seconds") == 7
            assert metric_value(metrics, "fraud_model_created_timestamp_seconds") == 14
            assert metric_value(metrics, "fraud_report_red", "drift") == 1

            workers[0].send_signal(signal.SIGKILL)
            workers[0].wait()
            assert metric_value(metrics, "fraud_http_requests_in_flight") == 3
            assert metric_value(metrics, "fraud_breaker_state", "history") == 0
            assert metric_value(metrics, "fraud_refusals_total", "overloaded") == 2
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()
