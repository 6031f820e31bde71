"""Assembly of everything that scoring needs: for the HTTP service, the consumer and runs over ranges.

Belongs here: the parts of a scorer, built from the settings and the exported models. Must not be here: any rule, input
and output (`service.py`, `serving/stream/consumer_process.py`, `serving/stream/ranges.py`).

Decisions are the same at every entrance, because every entrance gets its scorer here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

from fraud_pipeline.database import Database
from fraud_pipeline.database.performance import add_shadow_rows
from fraud_pipeline.schema.money import Conversion
from fraud_pipeline.schema.own_fields import OwnField
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline.settings import Settings
from serving.runtime.champion import ChampionHolder, LoadedModel
from serving.runtime.personal import ServedPersonalFields
from serving.runtime.prometheus_metrics import Metrics
from serving.runtime.report_watch import ReportWatch
from serving.runtime.resilience import Breakers, DegradationPolicy, ResilientScorer
from serving.runtime.rule_watch import RuleWatch
from serving.runtime.shadow import Shadow, ShadowReport

_SHADOW_PATIENCE: Final = 60.0
"""Seconds that a run waits for its challenger; by then its decisions are stored and nobody waits."""


class ScoringRuntime:
    """The database, the champion, its challenger in shadow, and the scorer."""

    def __init__(self, settings: Settings, *, metrics: Metrics) -> None:
        self.database = Database(settings.database, statement_timeout=settings.statement_timeout)
        self._conversion = settings.declaration.conversion if settings.declaration else None
        poll_interval = settings.champion_poll_interval.total_seconds()
        self.personal_fields = ServedPersonalFields(settings, champion=self._loaded)
        self.champion = ChampionHolder(
            settings.champion_directory,
            poll_interval=poll_interval,
            verify=self.personal_fields.verify,
            on_loaded=lambda loaded: metrics.model_loaded(
                loaded.version, created_at=loaded.created_at, trained_to=loaded.trained_to
            ),
            on_refused=metrics.model_refused,
        )
        self._challenger = ChampionHolder(
            settings.challenger_directory,
            poll_interval=poll_interval,
            keep_when_gone=False,
            verify=self.personal_fields.verify,
        )
        self._shadow = (
            Shadow(
                self._challenger.current,
                on_compared=metrics.shadowed,
                on_refused=metrics.shadow_refused,
                keep=partial(add_shadow_rows, self.database),
            )
            if settings.shadow_challenger
            else None
        )
        self._reports = ReportWatch(self.database, on_verdict=metrics.reported)
        self.rules = RuleWatch(self.database)
        self._following = False
        self.scorer = ResilientScorer(
            Scorer(
                database=self.database,
                champion=self.champion.current,
                cache_events=settings.history_cache_events,
                max_blocks_per_minute=settings.max_blocks_per_minute,
                holdout_share=settings.holdout_share,
                as_stored_now=self._as_stored_now,
                observe=metrics.stage,
                shadow=self._shadow,
                rules=self.rules.current,
            ),
            breakers=Breakers.build(on_change=metrics.breaker_changed),
            policy=DegradationPolicy(),
            on_decided=metrics.decided,
        )

    def start(self, *, follow: bool = True) -> None:
        """Load the exported models. With `follow`, also watch for new models, changed rules and red reports."""
        self._following = follow
        holders = [self.champion, *([self._challenger] if self._shadow else [])]
        for holder in holders:
            if follow:
                holder.start()
            else:
                holder.check_now()
        self.rules.check_now()
        if follow:
            self.rules.start()
            self._reports.start()

    def declared_own_fields(self) -> Mapping[str, OwnField]:
        """The own fields that the champion declares now, by name."""
        loaded = self.champion.current()
        return {field.name: field for field in loaded.model.feature_config.own_inputs.fields} if loaded else {}

    def conversion(self) -> Conversion | None:
        """The rates that the champion was trained with; without a champion those of the settings' fraud.toml."""
        loaded = self.champion.current()
        return loaded.model.feature_config.conversion if loaded else self._conversion

    def _loaded(self) -> LoadedModel | None:
        return self.champion.current()

    def _as_stored_now(self, row: TransactionRow) -> TransactionRow:
        return self.personal_fields().row(row)

    def shadow_report(self) -> ShadowReport | None:
        """The comparison of challenger and champion, or None without a challenger."""
        return self._shadow.report() if self._shadow else None

    def close(self) -> None:
        """Let the challenger finish its queue, then close everything."""
        self._challenger.close()
        if self._shadow and self._following:
            self._shadow.close()
        elif self._shadow:
            self._shadow.close(patience=_SHADOW_PATIENCE)
        self.champion.close()
        self._reports.close()
        self.rules.close()
        self.database.close()


@contextmanager
def open_scoring_runtime(settings: Settings, *, metrics: Metrics, follow: bool = True) -> Iterator[ScoringRuntime]:
    """A started runtime on a database of this release.

    Raises DatabaseUnavailableError or DatabaseOutdatedError when it cannot start.
    """
    runtime = ScoringRuntime(settings, metrics=metrics)
    try:
        runtime.database.prepare()
        runtime.start(follow=follow)
        yield runtime
    finally:
        runtime.close()
