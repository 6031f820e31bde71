"""Names of columns: the words of a name in any style, and our form of a name.

Belongs here: spellings of names. Must not be here: what a column holds, which field it is.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_JOINED: Final = (
    ("datetime", "date_time"),
    ("timestamp", "time_stamp"),
    ("isfraud", "is_fraud"),
    ("oldbalance", "old_balance"),
    ("newbalance", "new_balance"),
    ("zipcode", "zip_code"),
)
"""Words that many write together, and their parts."""
_LETTERS: Final = str.maketrans(
    dict(
        zip(
            "äöüÄÖÜßøØłŁæÆđ",
            ["ae", "oe", "ue", "Ae", "Oe", "Ue", "ss", "o", "O", "l", "L", "ae", "AE", "d"],
            strict=True,
        )
    )
)
_LONGEST: Final = 63
_ROW_INDEX: Final = re.compile(
    r"(unnamed(_[0-9]+)*|index|idx|(row|line|record)_?(id|num(ber)?|no|nr|index)?|level_0|x)?"
)


def spelled(name: str) -> str:
    """The words of a name, lower case, with one underscore between them: `TransactionAmt` -> `transaction_amt`.

    Digits are words of their own: `card1` -> `card_1`. Accents are dropped.
    """
    plain = unicodedata.normalize("NFKD", name.translate(_LETTERS)).encode("ascii", "ignore").decode()
    words = "_".join(word.lower() for word in _WORD.findall(plain))
    for together, apart in _JOINED:
        words = re.sub(rf"(?<![a-z]){together}", apart, words)
    return words


def our_name(name: str, *, taken: Iterable[str]) -> str:
    """A name in our form, `[a-z][a-z0-9_]{0,62}`, that is not one of `taken`.

    Words stay as they are written: `card1` -> `card1`, `DeviceType` -> `device_type`.
    """
    plain = unicodedata.normalize("NFKD", name.translate(_LETTERS)).encode("ascii", "ignore").decode()
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", plain)
    form = re.sub(r"[^a-z0-9]+", "_", apart.lower()).strip("_")
    if not form or not form[0].isalpha():
        form = f"column_{form}".strip("_")
    form = form[:_LONGEST].rstrip("_")
    known = set(taken)
    if form not in known:
        return form
    candidates = (f"{form[: _LONGEST - 8]}_{number}" for number in range(2, len(known) + 3))
    own = f"own_{form}"[:_LONGEST]
    return own if own not in known else next(name for name in candidates if name not in known)


def is_row_index(name: str) -> bool:
    """Whether a name is one that programs give to row numbers, such as `Unnamed: 0`."""
    return _ROW_INDEX.fullmatch(spelled(name)) is not None
