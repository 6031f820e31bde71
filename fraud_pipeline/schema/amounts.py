"""Amounts of money in currency units as whole cents: the one rule for files, HTTP and the stream.

Belongs here: from a number to cents, and which currencies have cents. Must not be here: ranges, and how a file
spells a number (`ingest/number_spellings.py`).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.schema.currencies import MINOR_DIGITS

_NOISE: Final = 1e-6
"""Cents by which arithmetic may have missed a whole one: 17.410000000000004 is 17.41, and 17.411 is not."""
_NOTHING: Final = 1e-10
"""Cents that are nothing: what remains of 0.1 + 0.2 - 0.3."""
_DOUBLE: Final = 2.0**-50
_SINGLE: Final = 2.0**-22


def whole_cents(
    amounts: NDArray[np.float64], *, digits: int = 2, single: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cents of each amount, and whether it is a whole number of them but for float noise; both shape (n,).

    Cents of other amounts, and of missing ones, are 0. Other `digits` than 2 give other minor units. `single` says that
    the numbers were 32-bit floats, which spell large amounts less exactly.
    """
    cents = amounts * 10**digits
    whole = np.rint(cents)
    noise = np.where(whole == 0, _NOTHING, _NOISE + np.abs(cents) * (_SINGLE if single else _DOUBLE))
    exact = np.abs(cents - whole) <= noise
    return np.where(exact, whole, 0).astype(np.int64), exact


def cents_of(amount: float, *, digits: int = 2) -> int | None:
    """Cents of one amount as `whole_cents` gives them; None where it is finer than a cent."""
    cents = amount * 10**digits
    whole = round(cents)
    noise = _NOISE + abs(cents) * _DOUBLE if whole else _NOTHING
    return whole if abs(cents - whole) <= noise else None


def whole_units(currency: str) -> bool:
    """Whether a currency has no smaller coin than its unit."""
    return MINOR_DIGITS.get(currency) == 0
