"""Rows that belong to transaction ids: every join of the project by id, each validated one-to-one.

Belongs here: joins by `transaction_id`. Must not be here: what the rows mean.

An ordinary join by a repeated id returns more rows than it was asked for, and everything beside it slides by one.
Labels then stand beside the features of another transaction, and no figure says so.
"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ID: Final = "transaction_id"


class JoinError(ValueError):
    """Rows do not belong one-to-one; the message holds the table's name and counts, never an id."""


def rows_of(frame: pd.DataFrame, ids: pd.Series, *, table: str) -> pd.DataFrame:
    """The rows of `frame` with these transaction ids, in the order of `ids`, numbered from 0.

    `table` is the name that errors call `frame` by. Raises JoinError when an id is repeated, in `frame` or in `ids`,
    or when `frame` lacks one.
    """
    positions = positions_of(frame, ids, table=table)
    missing = int((positions < 0).sum())
    if missing:
        raise JoinError(
            f"table '{table}' lacks {missing} of {len(ids)} transactions that are looked for in it: its days and those "
            "of the rows beside it were not made from the same data; materialize both again"
        )
    return frame.iloc[positions].reset_index(drop=True)


def positions_of(frame: pd.DataFrame, ids: pd.Series, *, table: str) -> NDArray[np.intp]:
    """The position in `frame` of each transaction id, -1 where it has none; shape (n,).

    Raises JoinError when an id is repeated, in `frame` or in `ids`.
    """
    index = pd.Index(frame[ID])
    check_unique(index, table=table)
    check_unique(ids, table=f"rows beside {table}")
    positions: NDArray[np.intp] = index.get_indexer(pd.Index(ids))
    return positions


def check_unique(ids: pd.Series | pd.Index, *, table: str) -> None:
    """Raise JoinError when a transaction id is repeated."""
    repeated = int(pd.Index(ids).duplicated().sum())
    if repeated:
        raise JoinError(
            f"table '{table}' holds {repeated} of {len(ids)} rows whose transaction_id is repeated, so labels and "
            "features would belong to other transactions: materialize `transactions` of these days again, which "
            "rejects repeated ids, and what follows it"
        )
