"""The holdout: a few would-be blocks go to a person instead, so that a model can be measured where it blocks.

Belongs here: which ones, and what they stand for in an estimate. Must not be here: decisions (`scoring/scorer.py`),
metrics, SQL.

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

from fraud_pipeline.schema.joins import positions_of

HOLDOUT: Final = "holdout"  # the reason code of a would-be block that was held out
MIN_HELD_OUT: Final = 10
_DRAWS: Final = 2**64


def held_out(transaction_id: str, *, share: float, key: str) -> bool:
    """Whether this would-be block is held out, as is a `share` (0 to 1) of all ids.

    The same id and key always draw the same, so a retry and every entrance agree. Who does not know the key cannot
    choose an id that is held out, so it is a secret of the database, and nothing that an answer tells.
    """
    digest = hmac.digest(key.encode(), transaction_id.encode(), "sha256")
    return int.from_bytes(digest[:8]) < share * _DRAWS


@dataclass(frozen=True, slots=True, eq=False)
class Holdout:
    """Which of some rows were held out and which were blocked, with which share, and on which day, each of shape (n,).

    A `share` is NaN where nothing was drawn; `off` are the rows of days with a block by a model that nothing was drawn
    for, so that nobody speaks for it.
    """

    held_out: NDArray[np.bool_]
    blocked: NDArray[np.bool_]
    share: NDArray[np.float64]
    off: NDArray[np.bool_]

    @classmethod
    def of(cls, transaction_ids: pd.Series, would_be_blocks: pd.DataFrame, *, days: NDArray[np.int64]) -> Self:
        """The rows of these ids and days (n,).

        `would_be_blocks` holds transaction_id, held_out, by_model and share of those decided so.
        """
        position = positions_of(would_be_blocks, transaction_ids, table="would-be blocks")
        found = would_be_blocks.reset_index(drop=True).reindex(position)
        held_out = found["held_out"].eq(True).to_numpy()
        share = found["share"].to_numpy(np.float64)
        blocked = found["held_out"].eq(False).to_numpy()
        undrawn = found["by_model"].eq(True).to_numpy() & np.isnan(share)
        return cls(held_out=held_out, blocked=blocked, share=share, off=np.isin(days, days[undrawn]))

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """The would-be blocks of days on which all of them were drawn, shape (n,)."""
        return ~np.isnan(self.share) & ~self.off

    @property
    def enough(self) -> bool:
        """Whether there are enough of them to speak for the blocked rows: one alone could be any of them."""
        return int((self.held_out & self.drawn).sum()) >= MIN_HELD_OUT

    @property
    def weight(self) -> float:
        """How many would-be blocks each one held out stands for on average; itself, while there are too few."""
        return float(self.drawn.sum() / (self.held_out & self.drawn).sum()) if self.enough else 1.0

    @property
    def weights(self) -> NDArray[np.float64]:
        """How many rows each one stands for, shape (n,): as it is, while too few were held out.

        Each one held out counts for the inverse of the share with which it was drawn, scaled so that together they
        count for all that were drawn; a blocked row counts for none. Days on which blocks were not drawn say nothing
        about what they hide, and are left out as a whole.
        Source: Hajek, "Comment on An Essay on the Logical Foundations of Survey Sampling", 1971.
        """
        if not self.enough:
            return np.ones(len(self.held_out))
        speaking = self.held_out & self.drawn
        inverse = np.where(speaking, 1 / np.where(speaking, self.share, 1), 0)
        counted = inverse * self.drawn.sum() / inverse.sum()
        return np.where(speaking, counted, np.where(self.blocked | self.off, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How many would-be blocks were held out, for how many each counts, and what they cost beyond blocking them.

    `days_off` were left out, for blocks were not drawn on them.
    """

    rows: int
    weight: float
    cents_per_day: float
    days_off: int = 0

    def __str__(self) -> str:
        if self.rows == 0:
            return ""
        if self.rows < MIN_HELD_OUT:
            return f"; {self.rows} would-be blocks were held out, too few to count for those that were blocked"
        counted = f"{self.rows:,} would-be blocks were held out and count for {self.weight:.1f} each"
        off = f"; {self.days_off} days on which the holdout was off are left out" if self.days_off else ""
        return f"; {counted}, the blocked for none; not blocking them cost {self.cents_per_day:,.0f} cents a day{off}"
