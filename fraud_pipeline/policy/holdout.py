"""The holdout: a random few of the would-be blocks go to review instead, so that blocks can be measured.

Belongs here: the draw, and the weights of held out rows in an estimate. Must not be here: decisions
(`scoring/scorer.py`), metrics, SQL.

A blocked payment never happens, so nobody reports its fraud, and correct blocks look like false ones. Held out rows are
drawn at random among the would-be blocks, so they represent all of them. Source: Manapat, "Counterfactual Evaluation of
Machine Learning Models", a talk at Stripe.
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
    """Whether this would-be block is held out; that is true for a `share` (0 to 1) of all ids.

    The same id and key always give the same draw, so retries, HTTP and stream agree. The key is a secret of the
    database, because a person who knows it can choose an id that is held out; answers do not reveal the draw.
    """
    digest = hmac.digest(key.encode(), transaction_id.encode(), "sha256")
    return int.from_bytes(digest[:8]) < share * _DRAWS


@dataclass(frozen=True, slots=True, eq=False)
class Holdout:
    """Which rows were held out and which were blocked, and with which share, each of shape (n,).

    A `share` is NaN without a draw. `off` marks the rows of days on which a model blocked without a draw, so that no
    held out row represents that block.
    """

    held_out: NDArray[np.bool_]
    blocked: NDArray[np.bool_]
    share: NDArray[np.float64]
    off: NDArray[np.bool_]

    @classmethod
    def of(cls, transaction_ids: pd.Series, would_be_blocks: pd.DataFrame, *, days: NDArray[np.int64]) -> Self:
        """The rows of these ids and days (n,).

        `would_be_blocks` holds transaction_id, held_out, by_model and share.
        """
        position = positions_of(would_be_blocks, transaction_ids, table="would-be blocks")
        matching = would_be_blocks.reset_index(drop=True).reindex(position)
        held_out = matching["held_out"].eq(True).to_numpy()
        share = matching["share"].to_numpy(np.float64)
        blocked = matching["held_out"].eq(False).to_numpy()
        undrawn = matching["by_model"].eq(True).to_numpy() & np.isnan(share)
        return cls(held_out=held_out, blocked=blocked, share=share, off=np.isin(days, days[undrawn]))

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """The would-be blocks of days on which all of them were drawn, shape (n,)."""
        return ~np.isnan(self.share) & ~self.off

    @property
    def enough(self) -> bool:
        """Whether enough rows were held out to represent the blocked rows."""
        return int((self.held_out & self.drawn).sum()) >= MIN_HELD_OUT

    @property
    def weight(self) -> float:
        """The average number of would-be blocks that a held out row stands for; 1 with too few of them."""
        return float(self.drawn.sum() / (self.held_out & self.drawn).sum()) if self.enough else 1.0

    @property
    def weights(self) -> NDArray[np.float64]:
        """The number of rows that each row stands for, shape (n,); all 1 with too few held out rows.

        A held out row weighs the inverse of its share, scaled so that together they count for all drawn rows; a blocked
        row weighs 0. Days on which blocks were not drawn are left out as a whole. Source: Hajek, "Comment on An Essay
        on the Logical Foundations of Survey Sampling", 1971.
        """
        if not self.enough:
            return np.ones(len(self.held_out))
        speaking = self.held_out & self.drawn
        inverse = np.where(speaking, 1 / np.where(speaking, self.share, 1), 0)
        counted = inverse * self.drawn.sum() / inverse.sum()
        return np.where(speaking, counted, np.where(self.blocked | self.off, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The number of held out would-be blocks, the weight of each, and their extra cost compared with blocking.

    `days_off` were left out, because blocks were not drawn on them.
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
