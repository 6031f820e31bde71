"""Erased transactions: the id that takes the place of a transaction's and its customer's, and what was done where.

Belongs here: names. Must not be here: statements (`database/erasure.py`), files (`ingest/erased_days.py`).

Each erased transaction is a customer of its own, so that rows of one person cannot be linked. The same transaction has
the same id in every place, so that no place counts it twice.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fraud_pipeline.schema.pseudonyms import PersonalKey

PREFIX: Final = "erased_"
_ERASED: Final = re.compile(rf"{PREFIX}[a-z2-7]{{26}}")
ErasedId = Callable[[str], str]
"""Transaction id -> the id after erasure; an erased id stays."""


@dataclass(frozen=True, slots=True)
class ErasedRows:
    """Rows of a customer in one place: those that were found, and how many still name the customer afterwards."""

    place: str
    pseudonymised: int = 0
    removed: int = 0
    left: int = 0


def erased_ids(key: PersonalKey) -> ErasedId:
    """Ids by this key; without it nobody can tell which transaction an erased row was."""

    def erased(transaction_id: str) -> str:
        if _ERASED.fullmatch(transaction_id):
            return transaction_id
        return PREFIX + key.pseudonym(f"erased transaction\0{transaction_id}").removeprefix("p_")

    return erased
