"""Scorer: history -> features -> model -> decision -> remember. The one path for every entrance.

Belongs here: the order of these steps, and what each mode does without. Must not be here: SQL (`database/`), what is
kept between transactions (`history_cache.py`), how a decision is made (`decide.py`) and stored (`decision_record.py`),
when to change the mode (`serving/runtime/resilience.py`).

A micro-batch is one database transaction. It locks its customers, so that two entrances may touch one customer at
once; decision, event and alert are stored together or not at all. The same id with the same content gets the stored
answer again, so every delivery may be repeated.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.database import (
    Batch,
    Database,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    HistoryReadError,
    Versions,
    scoring_batch,
)
from fraud_pipeline.features.config import DEFAULT_FEATURE_CONFIG, FeatureConfig
from fraud_pipeline.features.definitions import CUSTOMER_WINDOWS, LONGEST_WINDOW
from fraud_pipeline.features.engineer import HistoryTables
from fraud_pipeline.features.kernels.columns import Table
from fraud_pipeline.features.tiles import rows_where
from fraud_pipeline.policy.decisions import FAIL_SAFE_RULES, RULES
from fraud_pipeline.schema.transactions import DAY, TransactionRow
from fraud_pipeline.scoring.block_overrides import BlockOverrides
from fraud_pipeline.scoring.customer_cache import CrowdedHistoryError
from fraud_pipeline.scoring.decide import decide_with_model, decide_with_rules, no_history
from fraud_pipeline.scoring.decision_record import (
    Conflict,
    DecidedBy,
    Mode,
    ScoringModel,
    ScoringResult,
    from_stored,
    store,
)
from fraud_pipeline.scoring.history_cache import HistoryCache
from fraud_pipeline.scoring.reasons import Reason

__all__ = [
    "Conflict",
    "DecidedBy",
    "HistoryUnavailableError",
    "Mode",
    "ModelUnavailableError",
    "NotStoredError",
    "Reason",
    "Scorer",
    "ScoringModel",
    "ScoringResult",
    "StorageRefusedError",
    "StorageUnavailableError",
]

Stage = Literal["history", "features", "model", "store"]

_CUSTOMER_WINDOW: Final = max(CUSTOMER_WINDOWS.values())
# One is enough unless a customer gets more than a thousand versions meanwhile.
_READS_AHEAD: Final = 3
_MISSING: Final[Mapping[Mode, tuple[str, ...]]] = {
    "full": (),
    "no_history": ("history",),
    "rules": ("model",),
    "fail_safe": ("history", "model"),
}

Within = Callable[[Batch, Sequence[ScoringResult | Conflict]], None]


def _nothing_more(_batch: Batch, _answers: Sequence[ScoringResult | Conflict]) -> None:
    """The transaction holds what the scorer stores and no more."""


Shadow = Callable[[NDArray[np.float32], Sequence[ScoringResult], ScoringModel], None]


def no_shadow(_values: NDArray[np.float32], _scored: Sequence[ScoringResult], _loaded: ScoringModel) -> None:
    """Nobody else looks at what was decided."""


class HistoryUnavailableError(RuntimeError):
    """History cannot be read now; score without it."""


class ModelUnavailableError(RuntimeError):
    """The model cannot answer now; decide by rules."""


class NotStoredError(RuntimeError):
    """Nothing was stored, so nothing was decided; ask again later."""


class StorageUnavailableError(NotStoredError):
    """Nothing can be stored now, whatever it is."""


class StorageRefusedError(NotStoredError):
    """The database refused the values of these rows, or, by a rule that nobody meets, those of any."""


@dataclass(frozen=True, slots=True)
class Features:
    """Feature rows (n, features) in the order of FEATURE_NAMES, and what was missing for all of them."""

    values: NDArray[np.float32]
    missing: tuple[str, ...]


def now_microseconds() -> int:
    """The present instant."""
    return time.time_ns() // 1_000


class Scorer:
    """Decides on transactions and remembers them; one scorer per thread, any number per database.

    `champion` gives the model to use now, or None; features are made with its configuration, and without a model with
    the default one. Blocks beyond `max_blocks_per_minute` become reviews, as does a `holdout_share` of the model's
    blocks. `observe` gets the seconds of each stage; `shadow` gets what the model saw, after it was stored.
    """

    def __init__(
        self,
        *,
        database: Database,
        champion: Callable[[], ScoringModel | None],
        cache_events: int = 1_000_000,
        max_blocks_per_minute: int | None = None,
        holdout_share: float = 0.0,
        observe: Callable[[Stage, float], None] = lambda _stage, _seconds: None,
        shadow: Shadow = no_shadow,
        clock: Callable[[], int] = now_microseconds,
    ) -> None:
        self._database = database
        self._champion = champion
        self._holdout_share = holdout_share
        self._spared = BlockOverrides(max_per_minute=max_blocks_per_minute, holdout_share=holdout_share)
        self._observe = observe
        self._shadow = shadow
        self._clock = clock
        self._memory = HistoryCache(window=_CUSTOMER_WINDOW, max_rows=cache_events)
        self._config = DEFAULT_FEATURE_CONFIG
        self._kept_configs: set[FeatureConfig] = set()
        self._spent: dict[Stage, float] = {}

    def score(
        self, rows: Sequence[TransactionRow], *, mode: Mode = "full", within: Within = _nothing_more
    ) -> list[ScoringResult | Conflict]:
        """One stored decision per row, in order; without a model, `full` and `no_history` decide by rules.

        `within` is called with the answers before the transaction is committed; what it raises undoes everything.
        Raises HistoryUnavailableError, ModelUnavailableError, or NotStoredError; then nothing was stored, or asking
        again with the same rows gives what was.
        """
        try:
            return self._score_uncrowded(rows, mode=mode, within=within)
        except DatabaseUnavailableError as error:
            if not error.retry:
                raise _not_stored(error) from error
        try:
            return self._score_uncrowded(rows, mode=mode, within=within)
        except DatabaseUnavailableError as error:
            raise _not_stored(error) from error

    def find(self, transaction_id: str) -> ScoringResult | None:
        """The stored decision of an id. Raises NotStoredError."""
        with _storage(), scoring_batch(self._database, read_only=True) as batch:
            _, decision = batch.stored([transaction_id]).get(transaction_id, (None, None))
        return from_stored(decision) if decision else None

    def report(self, transaction_id: str, *, is_fraud: bool) -> int | None:
        """Remember what was said about a transaction; when it was said, or None for an unknown id.

        Saying the same again changes nothing. Raises NotStoredError.
        """
        with _storage(), scoring_batch(self._database) as batch:
            return batch.add_report(transaction_id, reported_at=self._clock(), is_fraud=is_fraud)

    def _score_uncrowded(
        self, rows: Sequence[TransactionRow], *, mode: Mode, within: Within
    ) -> list[ScoringResult | Conflict]:
        """As `_score`; histories with very many events are read beforehand, while nobody waits for their customers."""
        for _ in range(_READS_AHEAD):
            try:
                return self._score(rows, mode=mode, within=within)
            except CrowdedHistoryError as crowded:
                self._read_ahead(crowded)
        raise HistoryUnavailableError("customers get events faster than they can be read")

    def _read_ahead(self, crowded: CrowdedHistoryError) -> None:
        started = time.perf_counter()
        try:
            with scoring_batch(self._database, read_only=True) as batch:
                self._memory.read_ahead(crowded.since, read=batch.customers)
        except HistoryReadError as error:
            raise HistoryUnavailableError(str(error)) from error
        self._observe("history", time.perf_counter() - started)

    def _score(self, rows: Sequence[TransactionRow], *, mode: Mode, within: Within) -> list[ScoringResult | Conflict]:
        loaded = self._loaded(mode)
        config = self._config
        if loaded is None:
            mode = "rules" if mode in ("full", "rules") else "fail_safe"
        if not rows:
            with scoring_batch(self._database) as batch:
                within(batch, [])
            return []
        first: dict[str, TransactionRow] = {}
        for row in rows:
            first.setdefault(row.transaction_id, row)
        self._spent.clear()
        started = time.perf_counter()
        with scoring_batch(self._database) as batch:
            versions, added = batch.remember(list(first.values()))
            stored = batch.stored([id_ for id_ in first if id_ not in added]) if len(added) < len(first) else {}
            answers: dict[str, ScoringResult | Conflict] = {}
            for id_, (event, decision) in stored.items():
                if event is not None and event != first[id_]:
                    answers[id_] = Conflict(id_)
                elif decision is not None:
                    answers[id_] = from_stored(decision)
            new = [row for id_, row in first.items() if id_ not in answers]
            table = self._memory.table(new)
            known = np.array([row.transaction_id not in added for row in new], np.bool_)
            if new:
                features = self._features(batch, table, versions, config, known=known, mode=mode)
                scored = self._decide(batch, new, features, mode=mode, loaded=loaded)
                self._keep(batch, config)
                decided = store(
                    batch,
                    new,
                    scored,
                    features.values,
                    versions,
                    config,
                    loaded=loaded,
                    holdout_share=self._holdout_share,
                )
                # An event that was pruned leaves its decision behind: its id stays taken.
                answers |= {
                    one.transaction_id: one if one.transaction_id in decided else Conflict(one.transaction_id)
                    for one in scored
                }
            in_order = [self._answer(row, answers, first) for row in rows]
            within(batch, in_order)
        self._tell_stages(time.perf_counter() - started)
        self._memory.committed(versions.customers, {name: column[~known] for name, column in table.items()})
        if new:
            self._kept_configs.add(config)
            if loaded is not None:
                self._shadow(features.values, scored, loaded)
        return in_order

    def _keep(self, batch: Batch, config: FeatureConfig) -> None:
        """What the id in the decisions stands for: written once by each process, and known once that is committed."""
        if config not in self._kept_configs:
            batch.add_feature_config(config.id, config.to_json())

    def _loaded(self, mode: Mode) -> ScoringModel | None:
        """The model that decides; rules that stand in for it see the features that it would have seen."""
        if mode not in ("full", "no_history"):
            return None
        loaded = self._champion()
        self._config = loaded.model.feature_config if loaded else DEFAULT_FEATURE_CONFIG
        return loaded

    @staticmethod
    def _answer(
        row: TransactionRow, answers: Mapping[str, ScoringResult | Conflict], first: Mapping[str, TransactionRow]
    ) -> ScoringResult | Conflict:
        chosen, answer = first[row.transaction_id], answers[row.transaction_id]
        if row is chosen or isinstance(answer, Conflict):
            return answer
        return replace(answer, replayed=True) if row == chosen else Conflict(row.transaction_id)

    def _features(
        self,
        batch: Batch,
        new: Table,
        versions: Versions,
        config: FeatureConfig,
        *,
        known: NDArray[np.bool_],
        mode: Mode,
    ) -> Features:
        missing = _MISSING[mode]
        history = no_history(len(known))
        if "history" not in missing:
            with self._stage("history"):
                history = self._history(batch, new, versions, config, known=known)
            if versions.merchant_days(config.label_maturity).as_of < int(new["event_time"].max()) // DAY * DAY:
                missing = (*missing, "merchant_days")
        with self._stage("features"):
            values = np.ascontiguousarray(config.engineer().values(history=history, new=new))
        return Features(values=values, missing=missing)

    def _history(
        self,
        batch: Batch,
        new: Table,
        versions: Versions,
        config: FeatureConfig,
        *,
        known: NDArray[np.bool_],
    ) -> HistoryTables:
        earliest = int(new["event_time"].min())
        maturity, lookback = config.label_maturity, config.engineer().lookback.days * DAY
        days_version = versions.merchant_days(maturity).version

        try:
            customers = self._memory.customers(new, versions.customers, read=batch.customers)
            is_tile = customers["tile_events"] > 0
            tiled = bool(is_tile.any())
            return HistoryTables(
                transactions=rows_where(customers, ~is_tile) if tiled else customers,
                customer_tiles=rows_where(customers, is_tile) if tiled else None,
                reports=self._memory.reports(
                    new,
                    version=versions.reports,
                    since=earliest - LONGEST_WINDOW,
                    load=lambda above, since: batch.reports(
                        above_version=above, up_to_version=versions.reports, since=since
                    ),
                ),
                merchant_days=self._memory.merchants(
                    new["merchant_id"],
                    label_maturity=maturity,
                    version=days_version,
                    since=earliest - lookback,
                    load=lambda names, since: batch.merchant_days(
                        names, since=since, up_to_version=days_version, label_maturity=maturity
                    ),
                ),
                known=known,
            )
        except HistoryReadError as error:
            raise HistoryUnavailableError(str(error)) from error

    def _decide(
        self,
        batch: Batch,
        new: Sequence[TransactionRow],
        features: Features,
        *,
        mode: Mode,
        loaded: ScoringModel | None,
    ) -> list[ScoringResult]:
        if loaded is None:
            rules, by = (RULES, "rules") if mode == "rules" else (FAIL_SAFE_RULES, "fail_safe")
            decisions, reasons = decide_with_rules(features.values, rules=rules)
            probabilities: Sequence[float | None] = [None] * len(new)
        else:
            by = "model"
            try:
                with self._stage("model"):
                    decisions, probabilities, reasons = decide_with_model(
                        features.values, loaded.model, without_history=mode == "no_history"
                    )
            except Exception as error:  # whatever a damaged model raises, rules can answer
                raise ModelUnavailableError(f"version {loaded.version} failed ({type(error).__name__})") from error
        decided_at = self._clock()
        blocks = [row for row, decision in zip(new, decisions, strict=True) if decision == "block"]
        all_spared = self._spared.apply(batch, blocks, by_model=loaded is not None)
        scored = []
        for row, decision, probability, why in zip(new, decisions, probabilities, reasons, strict=True):
            spared = all_spared.get(row.transaction_id)
            scored.append(
                ScoringResult(
                    transaction_id=row.transaction_id,
                    decision="review" if spared else decision,
                    probability=probability,
                    reasons=(*why, spared) if spared else why,
                    decided_by=by,  # type: ignore[arg-type]  # one of the three literals above
                    mode=mode,
                    missing=features.missing,
                    model_version=loaded.version if loaded else None,
                    decided_at=decided_at,
                )
            )
        return scored

    @contextmanager
    def _stage(self, stage: Stage) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._spent[stage] = time.perf_counter() - started

    def _tell_stages(self, total: float) -> None:
        """What is not another stage is waiting for the database to lock, store and commit."""
        for stage, seconds in self._spent.items():
            self._observe(stage, seconds)
        self._observe("store", total - sum(self._spent.values()))


@contextmanager
def _storage() -> Iterator[None]:
    try:
        yield
    except DatabaseUnavailableError as error:
        raise _not_stored(error) from error


def _not_stored(error: DatabaseUnavailableError) -> NotStoredError:
    refused = isinstance(error, DatabaseRefusedError)
    return StorageRefusedError(str(error)) if refused else StorageUnavailableError(str(error))
