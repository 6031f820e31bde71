"""A model carries its feature configuration, so that serving needs no settings for it."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import (
    load_history,
    read_feature_configs,
    read_merchant_days,
    read_newest_decisions,
    read_reports,
    read_transactions,
)
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.features.config import DEFAULT_FEATURE_CONFIG, FeatureConfig
from fraud_pipeline.features.engineer import FEATURE_NAMES, History, merchant_days
from fraud_pipeline.messaging.topics import ensure_topics, transaction_message
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.monitoring.skew_audit import VersionedHistory, audit_each
from fraud_pipeline.promotion.model_exporter import export_alias
from fraud_pipeline.promotion.registry import Registry
from fraud_pipeline.schema.transactions import (
    DAY,
    HOUR,
    REPORT_COLUMNS,
    SECOND,
    TRANSACTION_COLUMNS,
    TransactionRow,
    microseconds,
    now_microseconds,
    times,
)
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.consumer_process import consumers
from fraud_pipeline_tests.support.loaded import Loaded
from fraud_pipeline_tests.support.services import start, stop
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY
from fraud_pipeline_tests.support.streams import passed, send, transactions
from fraud_pipeline_tests.support.waiting import until

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

BEGINNING, END = pd.Timestamp(0, tz="UTC"), pd.Timestamp("2200-01-01", tz="UTC")
OF_MODEL: Final = FeatureConfig(label_maturity=LABEL_MATURITY)
SHORTER: Final = FeatureConfig(label_maturity=timedelta(days=7))


def past(now: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Transactions of 40 days with frauds among them, so that the label maturity decides which rows are matured
    legitimate.
    """
    rows = transactions(3_000, customers=60, end=now, seed=11, prefix="before-")
    events = frame([row._replace(event_time=now - 2 * DAY - number * HOUR // 3) for number, row in enumerate(rows)])
    reports = events.iloc[::9].assign(is_fraud=True)
    reports["reported_at"] = reports["event_time"] + pd.to_timedelta(np.arange(len(reports)) % 12, unit="D")
    known = reports["reported_at"] < events["event_time"].max()
    return events, reports.loc[known, list(REPORT_COLUMNS)]


def present(now: int, *, count: int, prefix: str = "t") -> list[TransactionRow]:
    rows = transactions(count, customers=60, end=now, prefix=prefix)
    return [row._replace(event_time=now - (count - number) * SECOND) for number, row in enumerate(rows)]


def frame(rows: Sequence[TransactionRow]) -> pd.DataFrame:
    events = pd.DataFrame(rows, columns=TransactionRow._fields)[list(TRANSACTION_COLUMNS)]
    places = {name: events[name].astype("float64") for name in ("latitude", "longitude")}
    return events.assign(event_time=times(events["event_time"].to_numpy()), **places)


def remember(database: Database, transactions: pd.DataFrame, reports: pd.DataFrame) -> None:
    """The nightly job for each label maturity in use, and for others that could be confused with it."""
    load_history(database, transactions=transactions, reports=reports)
    for config in (OF_MODEL, SHORTER, DEFAULT_FEATURE_CONFIG):
        refresh_merchant_days(
            database,
            now=pd.Timestamp.now(tz="UTC"),
            lookback=config.engineer().lookback,
            label_maturity=config.label_maturity,
        )


@pytest.mark.slow
def test_a_model_of_another_home_is_served_over_http_and_stream_with_the_same_bits(
    broker: Broker, empty_postgres_url: str, trained: TrainedModel, tmp_path: Path
) -> None:
    now = now_microseconds()
    before, reports = past(now)
    rows = present(now, count=400)
    registry = a_registry(tmp_path / "learning", trained.model)
    serving = Settings(home=tmp_path / "serving", database_url=empty_postgres_url)
    assert serving.label_maturity != trained.model.feature_config.label_maturity
    export_alias(registry, "champion", serving.champion_directory, on_progress=lambda _line: None)
    kafka = topics_of_our_own(broker)
    ensure_topics(kafka)
    messages = [transaction_message(row, currency="EUR") for row in rows]
    with closing(Database(empty_postgres_url, statement_timeout=timedelta(seconds=20))) as database:
        database.upgrade()
        remember(database, before, reports)
        server = start(serving.home, FRAUD_DATABASE_URL=empty_postgres_url)
        with server.client() as http:
            bodies = [json.loads(message.value or b"") for message in messages[:200]]
            sent = [{name: value for name, value in body.items() if name != "schema"} for body in bodies]
            assert http.post("/score_batch", json={"transactions": sent}).status_code == 200
            assert http.get("/model").json()["label_maturity_days"] == LABEL_MATURITY / timedelta(days=1)
        assert stop(server) == 0
        with consumers(serving.home, empty_postgres_url, kafka) as processes:
            send(kafka, kafka.transactions_topic, messages[200:])
            processes.start()
            until(lambda: passed(database, kafka.transactions_topic)[1] == 200, what="the stream")
        decisions = read_newest_decisions(database, limit=100_000).set_index("transaction_id")
    assert set(decisions["mode"]) == {"full"}
    assert set(decisions["missing"]) == {""}
    served = np.frombuffer(b"".join(decisions.loc[[row.transaction_id for row in rows], "features"]), np.uint32)
    history = History(
        transactions=before,
        reports=reports,
        merchant_days=merchant_days(before, reports, label_maturity=LABEL_MATURITY),
    )
    config, new = trained.model.feature_config, frame(rows)
    offline = config.engineer().compute(history=history, new=new)[list(FEATURE_NAMES)]
    own = config.own_inputs.values(new, microseconds(new["event_time"]))
    expected = np.ascontiguousarray(config.whole_rows(offline.to_numpy(np.float32), own)).view(np.uint32)
    differing = (served.reshape(expected.shape) != expected).sum(axis=0)
    assert {name: int(number) for name, number in zip(config.feature_names, differing, strict=True) if number} == {}
    assert offline["merchant_cleared_count_30d"].nunique() > 5


def test_each_decision_is_audited_with_the_configuration_that_it_was_made_with(
    database: Database, trained: TrainedModel
) -> None:
    """Also after a promotion to a model with another label maturity, within one process and its memory."""
    now = now_microseconds()
    remember(database, *past(now))
    rows = present(now, count=90)
    first = Loaded(trained.model, version="1", sha256="1" * 64)
    of_model = trained.model.feature_config
    shorter = replace(of_model, label_maturity=SHORTER.label_maturity)
    second = Loaded(replace(trained.model, feature_config=shorter), version="2", sha256="2" * 64)
    serving: list[Loaded | None] = [first]
    scorer = Scorer(database=database, champion=lambda: serving[0])
    for champion, part in ((first, rows[:30]), (second, rows[30:60]), (None, rows[60:])):
        serving[0] = champion
        scorer.score(part)
    decisions = read_newest_decisions(database, limit=100_000)
    configs = {id_: FeatureConfig.from_json(content) for id_, content in read_feature_configs(database).items()}
    assert {configs[id_] for id_ in decisions["feature_config"]} == {of_model, shorter, DEFAULT_FEATURE_CONFIG}

    def known(config: FeatureConfig) -> VersionedHistory:
        return VersionedHistory(
            transactions=read_transactions(database, start=BEGINNING, end=END, with_version=True),
            reports=read_reports(database, start=BEGINNING, end=END, with_version=True),
            merchant_days=read_merchant_days(database, start=BEGINNING, end=END, label_maturity=config.label_maturity),
        )

    verdict = audit_each(decisions, known, configs=configs, unnamed=shorter)
    assert (verdict.compared, verdict.different) == (90, 0), verdict.finding
    others = {
        id_: replace(config, label_maturity=DEFAULT_FEATURE_CONFIG.label_maturity) for id_, config in configs.items()
    }
    mistaken = audit_each(decisions, known, configs=others, unnamed=shorter)
    assert 0 < mistaken.different <= 60
    assert "merchant_cleared_count_30d" in mistaken.features
    lost = audit_each(decisions, known, configs={}, unnamed=shorter)
    assert lost.different == 90
    assert "configuration that is not kept" in lost.finding
    of_earlier_releases = decisions[decisions["feature_config"] == shorter.id].assign(feature_config=None)
    assert audit_each(of_earlier_releases, known, configs={}, unnamed=shorter).passed


def a_registry(home: Path, champion: FraudModel) -> Registry:
    """A registry with a champion."""
    settings = Settings(home=home)
    home.mkdir()
    registry = Registry(
        tracking_uri=settings.tracking_uri, model_name="fraud_model", artifact_directory=settings.artifact_directory
    )
    champion.save(home / "candidate")
    run = registry._client.create_run(registry.ensure_experiment("fraud_model"))
    version = registry.register(home / "candidate", run_id=run.info.run_id, tags={}).version
    registry.decide(version, action="promote", reasons=["a test"])
    return registry
