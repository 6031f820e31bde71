"""Amounts of money in currency units as whole cents: the one rule for files, HTTP and the stream.

Belongs here: from a number to cents, and which currencies have cents. Must not be here: ranges, and how a file
spells a number (`ingest/number_spellings.py`).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_NOISE: Final = 1e-6
"""Cents by which arithmetic may have missed a whole one: 17.410000000000004 is 17.41, and 17.411 is not."""
_DOUBLE: Final = 2.0**-50
_SINGLE: Final = 2.0**-22
# ISO 4217 currencies whose smallest coin is the unit itself.
_WITHOUT_CENTS: Final = frozenset(
    (
        *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI"),
        *("VND", "VUV", "XAF", "XOF", "XPF"),
    )
)


def whole_cents(amounts: NDArray[np.float64], *, single: bool = False) -> NDArray[np.int64]:
    """Cents of each amount, shape (n,); 0 where it is missing, not positive, or finer than a cent beyond float noise.

    `single` says that the numbers were 32-bit floats, which spell large amounts less exactly.
    """
    cents = amounts * 100
    whole = np.rint(cents)
    exact = np.abs(cents - whole) <= _NOISE + np.abs(cents) * (_SINGLE if single else _DOUBLE)
    return np.where(exact & (whole >= 1), whole, 0).astype(np.int64)


def cents_of(amount: float) -> int | None:
    """Cents of one amount as `whole_cents` gives them; None where that gives 0."""
    cents = amount * 100
    whole = round(cents)
    exact = abs(cents - whole) <= _NOISE + abs(cents) * _DOUBLE
    return whole if exact and whole >= 1 else None


def whole_units(currency: str) -> bool:
    """Whether a currency has no smaller coin than its unit."""
    return currency in _WITHOUT_CENTS
