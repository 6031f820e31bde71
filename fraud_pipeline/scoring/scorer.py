"""Scorer: history -> features -> model -> decision -> remember. The one path for every entrance.

Belongs here: the order of these steps, and what each mode does without. Must not be here: SQL (`database/`), what is
kept between transactions (`history_cache.py`), how a decision is made (`decide.py`) and stored (`decision_record.py`),
when to change the mode (`serving/runtime/resilience.py`). Stored answers and alerts are in `micro_batch.py`.

A micro-batch is one database transaction. It locks its customers, so that two entrances may touch one customer at
once; decision, event and alert are stored together or not at all. The same id with the same content gets the stored
answer again, so every delivery may be repeated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.database import (
    Batch,
    Database,
    DatabaseUnavailableError,
    HistoryReadError,
    Versions,
    scoring_batch,
)
from fraud_pipeline.features.config import DEFAULT_FEATURE_CONFIG, FeatureConfig
from fraud_pipeline.features.definitions import CUSTOMER_WINDOWS
from fraud_pipeline.features.kernels.columns import Table
from fraud_pipeline.policy.analyst_rules import RuleSet
from fraud_pipeline.policy.decisions import FAIL_SAFE_RULES, RULES
from fraud_pipeline.schema.transactions import DAY, TransactionRow, now_microseconds
from fraud_pipeline.scoring.block_overrides import BlockOverrides
from fraud_pipeline.scoring.customer_cache import CrowdedHistoryError
from fraud_pipeline.scoring.decide import Features, decide_with_model, decide_with_rules, no_history
from fraud_pipeline.scoring.decision_record import (
    Conflict,
    Mode,
    ScoringModel,
    ScoringResult,
    from_stored,
    store,
    unused_fields,
)
from fraud_pipeline.scoring.errors import HistoryUnavailableError, ModelUnavailableError, storage_errors, with_retry
from fraud_pipeline.scoring.history_cache import HistoryCache
from fraud_pipeline.scoring.history_reader import read_history
from fraud_pipeline.scoring.micro_batch import (
    NO_REQUEST_IDS,
    Answer,
    MicroBatch,
    RequestIdsOfRows,
    answer_to,
    answers_of,
    open_alerts,
    stored_answers,
)
from fraud_pipeline.scoring.rule_verdicts import MISSING_RULES, apply_rules, with_verdict
from fraud_pipeline.scoring.stage_clock import Stage, StageClock

_CUSTOMER_WINDOW: Final = max(CUSTOMER_WINDOWS.values())
# One is enough unless a customer gets more than a thousand versions meanwhile.
_READS_AHEAD: Final = 3
_MISSING: Final[Mapping[Mode, tuple[str, ...]]] = {
    "full": (),
    "no_history": ("history",),
    "rules": ("model",),
    "fail_safe": ("history", "model"),
}

Shadow = Callable[[NDArray[np.float32], Sequence[ScoringResult], ScoringModel, Sequence[TransactionRow]], None]
"""Gets feature rows, their results, the model that decided and the transactions."""


class Scorer:
    """Decides on transactions and remembers them; one scorer per thread, any number per database.

    `champion` gives the model to use now, or None; features are made with its configuration, and without a model with
    the default one. `rules` gives the analysts' rules in force, which may overrule the model. Blocks beyond
    `max_blocks_per_minute` become reviews, as does a `holdout_share` of the blocks of models and of analysts' rules.
    `as_stored_now` gives the row as which the doors of this process would store an earlier one. `observe` gets the
    seconds of each stage; `shadow` gets what the model saw, after it was stored.
    """

    def __init__(
        self,
        *,
        database: Database,
        champion: Callable[[], ScoringModel | None],
        cache_events: int = 1_000_000,
        max_blocks_per_minute: int | None = None,
        holdout_share: float = 0.0,
        as_stored_now: Callable[[TransactionRow], TransactionRow] = lambda row: row,
        observe: Callable[[Stage, float], None] = lambda _stage, _seconds: None,
        shadow: Shadow | None = None,
        rules: Callable[[], RuleSet | None] = lambda: None,
        clock: Callable[[], int] = now_microseconds,
    ) -> None:
        self._database = database
        self._champion = champion
        self._holdout_share = holdout_share
        self._block_overrides = BlockOverrides(max_per_minute=max_blocks_per_minute, holdout_share=holdout_share)
        self._as_stored_now = as_stored_now
        self._shadow = shadow
        self._rules = rules
        self._clock = clock
        self._cache = HistoryCache(window=_CUSTOMER_WINDOW, max_rows=cache_events)
        self._config = DEFAULT_FEATURE_CONFIG
        self._kept_configs: set[FeatureConfig] = set()
        self._stages = StageClock(observe)

    def score(
        self, rows: Sequence[TransactionRow], *, mode: Mode = "full", request_ids: RequestIdsOfRows = NO_REQUEST_IDS
    ) -> list[Answer]:
        """One stored decision per row, in order. Raises what `transaction` raises."""
        return with_retry(lambda: answers_of(self.transaction(rows, mode=mode, request_ids=request_ids)))

    @contextmanager
    def transaction(
        self, rows: Sequence[TransactionRow], *, mode: Mode = "full", request_ids: RequestIdsOfRows = NO_REQUEST_IDS
    ) -> Iterator[MicroBatch]:
        """The decisions on rows in a transaction that is committed when the block ends well, and else undone.

        New decisions are stored with the request's id of their transaction, if `request_ids` has one. Without a model,
        `full` and `no_history` decide by rules. Raises HistoryUnavailableError, ModelUnavailableError, or
        NotStoredError; then nothing was stored, or asking again with the same rows gives what was.
        """
        with storage_errors(), ExitStack() as opened:
            yield self._open(opened, rows, mode=mode, request_ids=request_ids)

    def find(self, transaction_id: str) -> ScoringResult | None:
        """The stored decision of an id. Raises NotStoredError."""
        with storage_errors(), scoring_batch(self._database, read_only=True) as batch:
            _, decision = batch.stored([transaction_id]).get(transaction_id, (None, None))
        return from_stored(decision) if decision else None

    def report(self, transaction_id: str, *, is_fraud: bool) -> int | None:
        """Store a fraud report; returns the time of the report, or None for an unknown id.

        The same report again changes nothing. Raises NotStoredError.
        """
        with storage_errors(), scoring_batch(self._database) as batch:
            return batch.add_report(transaction_id, reported_at=self._clock(), is_fraud=is_fraud)

    def _open(
        self, opened: ExitStack, rows: Sequence[TransactionRow], *, mode: Mode, request_ids: RequestIdsOfRows
    ) -> MicroBatch:
        """Begin the transaction in which all rows have an answer.

        Begins anew after a stale connection or a deadlock, and after very long histories were read ahead, while nobody
        waits for their customers.
        """
        retries, reads = 1, _READS_AHEAD
        while True:
            try:
                return opened.enter_context(self._scored(rows, mode=mode, request_ids=request_ids))
            except CrowdedHistoryError as crowded:
                if not reads:
                    raise HistoryUnavailableError("customers get events faster than they can be read") from crowded
                reads -= 1
                self._read_ahead(crowded)
            except DatabaseUnavailableError as error:
                if not (retries and error.retry):
                    raise
                retries -= 1

    def _read_ahead(self, crowded: CrowdedHistoryError) -> None:
        try:
            with self._stages.alone("history"), scoring_batch(self._database, read_only=True) as batch:
                self._cache.read_ahead(crowded.since, read=batch.customers)
        except HistoryReadError as error:
            raise HistoryUnavailableError(str(error)) from error

    @contextmanager
    def _scored(
        self, rows: Sequence[TransactionRow], *, mode: Mode, request_ids: RequestIdsOfRows
    ) -> Iterator[MicroBatch]:
        """The steps of one transaction, and after its commit what this process learns from it."""
        loaded = self._loaded(mode)
        config = self._config
        if loaded is None:
            mode = "rules" if mode in ("full", "rules") else "fail_safe"
        if not rows:
            with scoring_batch(self._database) as batch:
                yield MicroBatch(batch, [])
            return
        first: dict[str, TransactionRow] = {}
        for row in rows:
            first.setdefault(row.transaction_id, row)
        with self._stages.transaction(), scoring_batch(self._database) as batch:
            versions, added = batch.remember(list(first.values()))
            answers = stored_answers(batch, first, added, as_stored_now=self._as_stored_now)
            new = [row for id_, row in first.items() if id_ not in answers]
            table = self._cache.table(new)
            known = np.array([row.transaction_id not in added for row in new], np.bool_)
            if new:
                features = self._features(batch, new, table, versions, config, known=known, mode=mode)
                scored = self._decide(batch, new, features, mode=mode, loaded=loaded, request_ids=request_ids)
                # What the id in the decisions stands for is written once by each process.
                if config not in self._kept_configs:
                    batch.add_feature_config(config.id, config.to_json())
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
                open_alerts(batch, new, scored, decided)
                # An event that was pruned leaves its decision behind: its id stays taken.
                for result in scored:
                    id_ = result.transaction_id
                    answers[id_] = result if id_ in decided else Conflict(id_)
            yield MicroBatch(batch, [answer_to(row, answers, first) for row in rows])
        self._cache.committed(versions.customers, {name: column[~known] for name, column in table.items()})
        if new:
            self._kept_configs.add(config)
            if loaded is not None and self._shadow is not None:
                self._shadow(features.values, scored, loaded, new)

    def _loaded(self, mode: Mode) -> ScoringModel | None:
        """The model that decides; rules that stand in for it see the features that it would have seen."""
        if mode not in ("full", "no_history"):
            return None
        loaded = self._champion()
        self._config = loaded.model.feature_config if loaded else DEFAULT_FEATURE_CONFIG
        return loaded

    def _features(
        self,
        batch: Batch,
        rows: Sequence[TransactionRow],
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
            with self._stages.measured("history"):
                history = read_history(self._cache, batch, new, versions, config, known=known)
            if versions.merchant_days(config.label_maturity).as_of < int(new["event_time"].max()) // DAY * DAY:
                missing = (*missing, "merchant_days")
        with self._stages.measured("features"):
            values = config.engineer().values(history=history, new=config.on_local_clock(new, rows))
            if config.own_inputs.inputs:
                values = config.whole_rows(values, config.own_inputs.values_of_rows(rows))
            values = np.ascontiguousarray(values)
        return Features(values=values, missing=missing)

    def _decide(
        self,
        batch: Batch,
        new: Sequence[TransactionRow],
        features: Features,
        *,
        mode: Mode,
        loaded: ScoringModel | None,
        request_ids: RequestIdsOfRows,
    ) -> list[ScoringResult]:
        if loaded is None:
            rules, by = (RULES, "rules") if mode == "rules" else (FAIL_SAFE_RULES, "fail_safe")
            decisions, reasons = decide_with_rules(features.values, rules=rules)
            probabilities: Sequence[float | None] = [None] * len(new)
        else:
            by = "model"
            try:
                with self._stages.measured("model"):
                    decisions, probabilities, reasons = decide_with_model(
                        features.values, loaded.model, without_history=mode == "no_history"
                    )
            except Exception as error:  # whatever a damaged model raises, rules can answer
                raise ModelUnavailableError(f"version {loaded.version} failed ({type(error).__name__})") from error
        decided_at = self._clock()
        verdicts = apply_rules(self._rules(), new, features, decisions=decisions, probabilities=probabilities)
        without_rules, decisions = decisions, verdicts.overrule(decisions)
        blocks = [place for place, decision in enumerate(decisions) if decision == "block"]
        all_spared = self._block_overrides.apply(
            batch,
            [new[place] for place in blocks],
            drawn=[loaded is not None or verdicts.decide(place) for place in blocks],
        )
        declared = {field.name for field in self._config.own_inputs.fields} if loaded else set[str]()
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
                    missing=features.missing if verdicts.complete else (*features.missing, MISSING_RULES),
                    model_version=loaded.version if loaded else None,
                    decided_at=decided_at,
                    request_id=request_ids.get(row.transaction_id),
                    unused_fields=unused_fields(row, declared) if row.own_fields else (),
                )
            )
        for place, verdict in verdicts.by_row.items():
            scored[place] = with_verdict(scored[place], verdict, without_rules=without_rules[place])
        return scored
