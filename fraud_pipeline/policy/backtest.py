"""The backtest of a rule: how often it was true, of what, and what it would have changed.

Belongs here: figures from matches, labels and decisions. Must not be here: reading them (`database/rule_backtest.py`),
evaluation (`rule_program.py`), words for people.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_Z: Final = 1.959963984540054
SAMPLES: Final = 10


@dataclass(frozen=True, slots=True, eq=False)
class BacktestRows:
    """Decided transactions, each array of shape (n,), in order of time.

    `fraud` is 1 or 0, and NaN where nobody knows: the label is not mature, or the payment was blocked. `stopped` says
    that the decision without analysts' rules was a review or a block. Days are numbers of days since 1970.
    """

    transaction_ids: NDArray[np.object_]
    matched: NDArray[np.bool_]
    fraud: NDArray[np.float64]
    stopped: NDArray[np.bool_]
    amount_cents: NDArray[np.int64]
    day: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Backtest:
    """What a rule would have done; amounts in cents, shares from 0 to 1 and None where nothing is known.

    Precision counts matches with a known label, with its 95 % interval. `new_frauds` are matched frauds that were
    allowed; `saved_cents` are their amounts. `disturbed` are legitimate matches that were allowed.
    """

    rows: int
    days: int
    matches: int
    matches_per_day: float
    matched_frauds: int
    matched_legitimate: int
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    recall: float | None
    new_frauds: int
    share_before_model: float | None
    saved_cents: int
    disturbed: int
    samples: tuple[str, ...]


def backtest(rows: BacktestRows, *, days: int) -> Backtest:
    """The figures of a rule over `days` days. The samples are the newest matches."""
    fraud, legitimate = rows.fraud == 1, rows.fraud == 0
    hits, false = int((rows.matched & fraud).sum()), int((rows.matched & legitimate).sum())
    new = rows.matched & fraud & ~rows.stopped
    low, high = wilson(hits, hits + false)
    matches = int(rows.matched.sum())
    return Backtest(
        rows=len(rows.matched),
        days=days,
        matches=matches,
        matches_per_day=matches / days,
        matched_frauds=hits,
        matched_legitimate=false,
        precision=hits / (hits + false) if hits + false else None,
        precision_low=low,
        precision_high=high,
        recall=hits / int(fraud.sum()) if fraud.any() else None,
        new_frauds=int(new.sum()),
        share_before_model=int(new.sum()) / hits if hits else None,
        saved_cents=int(np.abs(rows.amount_cents[new]).sum()),
        disturbed=int((rows.matched & legitimate & ~rows.stopped).sum()),
        samples=tuple(rows.transaction_ids[rows.matched][::-1][:SAMPLES].tolist()),
    )


def wilson(successes: int, trials: int) -> tuple[float | None, float | None]:
    """The 95 % interval of a share. Source: Wilson, "Probable Inference", 1927."""
    if not trials:
        return None, None
    share, z2 = successes / trials, _Z**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z / (1 + z2 / trials) * float(np.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)))
    return max(0.0, centre - half), min(1.0, centre + half)
