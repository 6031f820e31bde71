"""The holdout: a few would-be blocks go to a person instead, so that a model can be measured where it blocks.

Belongs here: which ones, and what they stand for in an estimate. Must not be here: decisions (`scoring.py`), metrics,
SQL.

A blocked payment never happens, so nobody reports its fraud, and a model that is right about its blocks looks as if it
were wrong. Whoever is held out is drawn at random among the would-be blocks, so the few speak for all of them.
Source: Manapat, "Counterfactual Evaluation of Machine Learning Models", a talk at Stripe.
"""

import hmac
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

HOLDOUT: Final = "holdout"  # the reason code of a would-be block that was held out
MIN_HELD_OUT: Final = 10
_DRAWS: Final = 2**64


def held_out(transaction_id: str, *, share: float, key: str) -> bool:
    """Whether this would-be block is held out, as is a `share` (0 to 1) of all ids.

    The same id and key always draw the same, so a retry and every entrance agree. Who does not know the key cannot
    choose an id that is held out.
    """
    digest = hmac.digest(key.encode(), transaction_id.encode(), "sha256")
    return int.from_bytes(digest[:8]) < share * _DRAWS


@dataclass(frozen=True, slots=True, eq=False)
class Holdout:
    """Which of some rows were held out and which were blocked, each of shape (n,)."""

    held_out: NDArray[np.bool_]
    blocked: NDArray[np.bool_]

    @classmethod
    def of(cls, transaction_ids: pd.Series, would_be_blocks: pd.DataFrame) -> Self:
        """The rows of these ids; `would_be_blocks` holds transaction_id and held_out of those decided so."""
        chosen = would_be_blocks["held_out"].to_numpy(bool)
        ids = would_be_blocks["transaction_id"]
        return cls(
            held_out=transaction_ids.isin(ids[chosen]).to_numpy(), blocked=transaction_ids.isin(ids[~chosen]).to_numpy()
        )

    @property
    def enough(self) -> bool:
        """Whether there are enough of them to speak for the blocked rows: one alone could be any of them."""
        return int(self.held_out.sum()) >= MIN_HELD_OUT

    @property
    def weight(self) -> float:
        """How many would-be blocks each one that was held out stands for; itself, while there are too few."""
        return 1 + int(self.blocked.sum()) / int(self.held_out.sum()) if self.enough else 1.0

    @property
    def weights(self) -> NDArray[np.float64]:
        """How many rows each one stands for, shape (n,): a blocked row for none, unless too few were held out.

        The would-be blocks are a stratum of known size, so the inverse of the share that was drawn weighs better than
        the inverse of the share that was set, and a share that changes needs no record.
        Source: Holt and Smith, "Post Stratification", Journal of the Royal Statistical Society A, 1979.
        """
        return np.where(self.held_out, self.weight, np.where(self.blocked & self.enough, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How many would-be blocks were held out, for how many each counts, and what they cost beyond blocking them."""

    rows: int
    weight: float
    cents_per_day: float

    def __str__(self) -> str:
        if self.rows == 0:
            return ""
        if self.rows < MIN_HELD_OUT:
            return f"; {self.rows} would-be blocks were held out, too few to count for those that were blocked"
        counted = f"{self.rows:,} would-be blocks were held out and count for {self.weight:.1f} each"
        return f"; {counted}, the blocked for none; not blocking them cost {self.cents_per_day:,.0f} cents a day"
