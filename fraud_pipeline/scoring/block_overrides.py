"""Overrides of would-be blocks: some become reviews.

Belongs here: which blocks, and why. Must not be here: the count of a minute (`database/block_minutes.py`), the holdout
draw and its weights (`policy/holdout.py`), the order of scoring (`scorer.py`).
"""

from collections.abc import Sequence
from typing import Final

from fraud_pipeline.database import Batch
from fraud_pipeline.policy.holdout import HOLDOUT, held_out
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.reasons import Reason

BLOCK_CAP: Final = "block_cap"
_CAPPED: Final = Reason(BLOCK_CAP, "more blocks than usual at this moment: a person decides")
_HELD_OUT: Final = Reason(
    HOLDOUT, "would be blocked, but is one of a few that a person decides on, to measure the model"
)


class BlockOverrides:
    """Turns blocks beyond `max_per_minute` of one minute, and a `holdout_share` of those drawn, into reviews.

    The cap is shared by all processes of the database, so that a faulty model cannot block everybody at once; None
    means no cap.
    """

    def __init__(self, *, max_per_minute: int | None, holdout_share: float) -> None:
        self._max_per_minute = max_per_minute
        self._holdout_share = holdout_share
        self._holdout_key = ""

    def apply(self, batch: Batch, blocks: Sequence[TransactionRow], *, drawn: Sequence[bool]) -> dict[str, Reason]:
        """The ids of the overridden blocks, with the reason; the others stay blocked.

        `drawn` says which blocks the holdout covers: those of a model and of analysts' rules.
        """
        may = [True] * len(blocks)
        if self._max_per_minute is not None:
            may = batch.blocks.take([row.event_time for row in blocks], most=self._max_per_minute)
        overridden = {}
        for row, allowed, is_drawn in zip(blocks, may, drawn, strict=True):
            if not allowed:
                overridden[row.transaction_id] = _CAPPED
            # Drawn last, so that held out rows differ from blocked ones only by the draw.
            elif is_drawn and self._holdout_share:
                self._holdout_key = self._holdout_key or batch.holdout_key()
                if held_out(row.transaction_id, share=self._holdout_share, key=self._holdout_key):
                    overridden[row.transaction_id] = _HELD_OUT
        return overridden
