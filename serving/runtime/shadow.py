"""The challenger scores what the champion decided, off the answer's path: how often would it decide otherwise?

Belongs here: the queue between the two, the comparison, when there is nothing to compare. Must not be here: who is
challenger (`champion.py` holds it), promotion.

The challenger sees the features that the champion saw, and its own inputs, which it encodes itself. One whose features
are made otherwise would be judged on wrong values, so it is refused, as is one that is the champion itself.
"""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.database.performance import ShadowRow
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.policy.decisions import Decision, decide
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.decision_record import ScoringModel, ScoringResult

log = logging.getLogger(__name__)

MAX_WAITING: Final = 256
_PATIENCE: Final = 2.0
Seen = tuple[NDArray[np.float32], Sequence[ScoringResult], ScoringModel, Sequence[TransactionRow]]
Refusal = Literal["same_model", "other_features"]


_WHY: Final[Mapping[Refusal, str]] = {
    "same_model": "it is the champion itself; train another model",
    "other_features": "its features are made with another label maturity; the gate judges it on the test part only",
}


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """What both models decided on the same transactions; `dropped` were too many at once to compare.

    `refused` says why the challenger is not compared, if so.
    """

    champion: str
    challenger: str
    compared: int
    disagreements: int
    mean_difference: float
    decisions: Mapping[tuple[Decision, Decision], int]
    dropped: int
    refused: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "challenger": self.challenger,
            "compared": self.compared,
            "disagreements": self.disagreements,
            "mean_probability_difference": self.mean_difference,
            "decisions": {" -> ".join(pair): number for pair, number in sorted(self.decisions.items())},
            "dropped": self.dropped,
            "refused": self.refused,
        }


@dataclass(frozen=True, slots=True)
class _Tally:
    """Replaced as a whole, so that a reader never sees half of a batch."""

    versions: tuple[str, str]
    decisions: Mapping[tuple[Decision, Decision], int]
    difference: float
    refused: str | None = None


class Shadow:
    """Compares the challenger with the champion on a thread of its own; call it with what was decided.

    Neither an error nor a slow challenger reaches the caller: what does not fit into the queue is counted and dropped.
    """

    def __init__(
        self,
        challenger: Callable[[], ScoringModel | None],
        *,
        on_compared: Callable[[NDArray[np.object_], NDArray[np.object_]], None] = lambda _champion, _challenger: None,
        on_refused: Callable[[Refusal, int], None] = lambda _refusal, _rows: None,
        keep: Callable[[Sequence[ShadowRow]], None] | None = None,
    ) -> None:
        self._challenger = challenger
        self._on_compared = on_compared
        self._on_refused = on_refused
        self._keep = keep
        self._waiting: queue.Queue[Seen | None] = queue.Queue(MAX_WAITING)
        self._tally: _Tally | None = None
        self._dropped = self._dropped_before = 0
        self._dropping = threading.Lock()
        self._failing = ""
        self._thread = threading.Thread(target=self._compare_all, name="shadow", daemon=True)
        self._thread.start()

    def __call__(
        self,
        values: NDArray[np.float32],
        scored: Sequence[ScoringResult],
        champion: ScoringModel,
        rows: Sequence[TransactionRow] = (),
    ) -> None:
        """The champion's rows (n, features and own inputs) of transactions, and what it decided on them."""
        try:
            self._waiting.put_nowait((values, scored, champion, rows))
        except queue.Full:
            with self._dropping:  # several threads score
                self._dropped += len(scored)

    def report(self) -> ShadowReport | None:
        """What was found since either model changed, or None as long as nothing was compared."""
        tally = self._tally
        if tally is None:
            return None
        compared = sum(tally.decisions.values())
        return ShadowReport(
            champion=tally.versions[0],
            challenger=tally.versions[1],
            compared=compared,
            disagreements=sum(number for pair, number in tally.decisions.items() if len(set(pair)) > 1),
            mean_difference=tally.difference / max(compared, 1),
            decisions=tally.decisions,
            dropped=self._dropped - self._dropped_before,
            refused=tally.refused,
        )

    def close(self, *, patience: float = _PATIENCE) -> None:
        """Compare what waits and end; a challenger that takes more seconds than `patience` is not waited for."""
        with suppress(queue.Full):
            self._waiting.put(None, timeout=patience)
        self._thread.join(patience)
        if self._thread.is_alive():
            log.warning("the challenger is too slow: some of the last transactions were not compared")

    def _compare_all(self) -> None:
        while (seen := self._waiting.get()) is not None:
            version = "unknown"
            try:
                loaded = self._challenger()
                if loaded is None:
                    self._start_anew()
                    continue
                version = loaded.version
                values, scored, champion, transactions = seen
                refusal = _refusal(champion, loaded)
                if refusal is None:
                    values = _rows_of(loaded, values, champion, transactions)
                    self._compare(values, scored, loaded=loaded)
                else:
                    self._refuse(refusal, scored, champion=champion, challenger=loaded)
                self._failing = ""
            except Exception:  # a challenger that fails costs its comparison, nothing else
                if version != self._failing:  # once, not with every batch
                    log.exception("the challenger, version %s, cannot be compared", version)
                self._failing = version

    def _start_anew(self) -> None:
        if self._tally is not None:
            self._tally, self._dropped_before = None, self._dropped

    def _refuse(
        self, refusal: Refusal, scored: Sequence[ScoringResult], *, champion: ScoringModel, challenger: ScoringModel
    ) -> None:
        versions, why = (champion.version, challenger.version), _WHY[refusal]
        if self._tally is None or (self._tally.versions, self._tally.refused) != (versions, why):
            log.warning("the challenger, version %s, is not compared with version %s: %s", *reversed(versions), why)
            self._dropped_before = self._dropped
            self._tally = _Tally(versions, {}, 0.0, refused=why)
        self._on_refused(refusal, len(scored))

    def _compare(self, values: NDArray[np.float32], scored: Sequence[ScoringResult], *, loaded: ScoringModel) -> None:
        rows = [position for position, result in enumerate(scored) if result.probability is not None]
        if not rows:
            return
        names = loaded.model.feature_config.feature_names
        columns = [names.index(name) for name in loaded.model.features]
        probabilities = loaded.model.probabilities(np.ascontiguousarray(values[np.ix_(rows, columns)]))
        amounts = values[rows, names.index("amount")]
        of_challenger = decide(probabilities, loaded.model.policy, amounts_cents=amounts)
        of_champion = np.array([scored[position].decision_without_rules for position in rows], dtype=object)
        champion = np.array([scored[position].probability for position in rows], np.float64)
        versions = (str(scored[rows[0]].model_version), loaded.version)
        if self._tally is not None and (self._tally.versions != versions or self._tally.refused):
            self._start_anew()
        before = self._tally or _Tally(versions, {}, 0.0)
        self._tally = _Tally(
            versions,
            decisions=Counter(before.decisions) + Counter(zip(of_champion, of_challenger, strict=True)),
            difference=before.difference + float(np.abs(champion - probabilities).sum()),
        )
        self._on_compared(of_champion, of_challenger)
        if self._keep:
            self._keep(
                [
                    ShadowRow(
                        transaction_id=scored[position].transaction_id,
                        decided_at=scored[position].decided_at,
                        champion=versions[0],
                        challenger=versions[1],
                        champion_decision=of_champion[number],
                        challenger_decision=of_challenger[number],
                        champion_probability=float(champion[number]),
                        challenger_probability=float(probabilities[number]),
                    )
                    for number, position in enumerate(rows)
                ]
            )


def _refusal(champion: ScoringModel, challenger: ScoringModel) -> Refusal | None:
    """Why the challenger's decisions on the champion's feature rows would mean nothing, if so."""
    if champion.sha256 == challenger.sha256:
        return "same_model"
    if champion.model.feature_config.engineer() != challenger.model.feature_config.engineer():
        return "other_features"
    return None


def _rows_of(
    challenger: ScoringModel,
    values: NDArray[np.float32],
    champion: ScoringModel,
    transactions: Sequence[TransactionRow],
) -> NDArray[np.float32]:
    """The challenger's rows of these transactions, from the champion's rows."""
    config = challenger.model.feature_config
    if config.own_inputs == champion.model.feature_config.own_inputs:
        return values
    features = values[:, : len(FEATURE_NAMES)]
    return config.whole_rows(features, config.own_inputs.values_of_rows(transactions))
