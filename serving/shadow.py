"""The challenger scores what the champion decided, off the answer's path: how often would it decide otherwise?

Belongs here: the queue between the two, the comparison. Must not be here: who is challenger (`champion.py` holds it),
promotion.
"""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.database.performance import ShadowRow
from fraud_pipeline.decisions import Decision, decide
from fraud_pipeline.features import FEATURE_NAMES
from fraud_pipeline.scoring import Scored
from serving.champion import LoadedModel

log = logging.getLogger(__name__)

MAX_WAITING: Final = 256
_PATIENCE: Final = 2.0
Seen = tuple[NDArray[np.float32], Sequence[Scored]]


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """What both models decided on the same transactions; `dropped` were too many at once to compare."""

    champion: str
    challenger: str
    compared: int
    disagreements: int
    mean_difference: float
    decisions: Mapping[tuple[Decision, Decision], int]
    dropped: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "challenger": self.challenger,
            "compared": self.compared,
            "disagreements": self.disagreements,
            "mean_probability_difference": self.mean_difference,
            "decisions": {f"{one} -> {other}": number for (one, other), number in sorted(self.decisions.items())},
            "dropped": self.dropped,
        }


@dataclass(frozen=True, slots=True)
class _Tally:
    """Replaced as a whole, so that a reader never sees half of a batch."""

    versions: tuple[str, str]
    decisions: Mapping[tuple[Decision, Decision], int]
    difference: float


class Shadow:
    """Compares the challenger with the champion on a thread of its own; call it with what was decided.

    Neither an error nor a slow challenger reaches the caller: what does not fit into the queue is counted and dropped.
    """

    def __init__(
        self,
        challenger: Callable[[], LoadedModel | None],
        *,
        told: Callable[[NDArray[np.object_], NDArray[np.object_]], None] = lambda _champion, _challenger: None,
        keep: Callable[[Sequence[ShadowRow]], None] | None = None,
    ) -> None:
        self._challenger = challenger
        self._told = told
        self._keep = keep
        self._waiting: queue.Queue[Seen | None] = queue.Queue(MAX_WAITING)
        self._tally: _Tally | None = None
        self._dropped = self._dropped_before = 0
        self._dropping = threading.Lock()
        self._failing = ""
        self._thread = threading.Thread(target=self._compare_all, name="shadow", daemon=True)
        self._thread.start()

    def __call__(self, values: NDArray[np.float32], scored: Sequence[Scored]) -> None:
        """Feature rows (n, features) and what the champion decided on them."""
        try:
            self._waiting.put_nowait((values, scored))
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
            disagreements=sum(number for (one, other), number in tally.decisions.items() if one != other),
            mean_difference=tally.difference / compared,
            decisions=tally.decisions,
            dropped=self._dropped - self._dropped_before,
        )

    def close(self) -> None:
        """Compare what waits and end; a challenger that takes seconds for it is not waited for."""
        with suppress(queue.Full):
            self._waiting.put(None, timeout=_PATIENCE)
        self._thread.join(_PATIENCE)

    def _compare_all(self) -> None:
        while (seen := self._waiting.get()) is not None:
            version = "unknown"
            try:
                loaded = self._challenger()
                if loaded is None:
                    self._start_anew()
                    continue
                version = loaded.version
                self._compare(*seen, loaded=loaded)
                self._failing = ""
            except Exception:  # a challenger that fails costs its comparison, nothing else
                if version != self._failing:  # once, not with every batch
                    log.exception("the challenger, version %s, cannot be compared", version)
                self._failing = version

    def _start_anew(self) -> None:
        if self._tally is not None:
            self._tally, self._dropped_before = None, self._dropped

    def _compare(self, values: NDArray[np.float32], scored: Sequence[Scored], *, loaded: LoadedModel) -> None:
        rows = [position for position, one in enumerate(scored) if one.probability is not None]
        if not rows:
            return
        columns = [FEATURE_NAMES.index(name) for name in loaded.model.features]
        probabilities = loaded.model.probabilities(np.ascontiguousarray(values[np.ix_(rows, columns)]))
        theirs = decide(probabilities, loaded.model.policy)
        ours = np.array([scored[position].decision for position in rows], dtype=object)
        champion = np.array([scored[position].probability for position in rows], np.float64)
        versions = (str(scored[rows[0]].model_version), loaded.version)
        if self._tally is not None and self._tally.versions != versions:
            self._start_anew()
        before = self._tally or _Tally(versions, {}, 0.0)
        self._tally = _Tally(
            versions,
            decisions=Counter(before.decisions) + Counter(zip(ours, theirs, strict=True)),
            difference=before.difference + float(np.abs(champion - probabilities).sum()),
        )
        self._told(ours, theirs)
        if self._keep:
            self._keep(
                [
                    ShadowRow(
                        transaction_id=scored[position].transaction_id,
                        decided_at=scored[position].decided_at,
                        champion=versions[0],
                        challenger=versions[1],
                        champion_decision=ours[number],
                        challenger_decision=theirs[number],
                        champion_probability=float(champion[number]),
                        challenger_probability=float(probabilities[number]),
                    )
                    for number, position in enumerate(rows)
                ]
            )
