"""Which rows of a batch are rejected so far, and why.

Belongs here: the record that the checks of columns write to. Must not be here: a check.
"""

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Objects = NDArray[np.object_]


class Verdict:
    """The first field and reason for which each row is rejected.

    `normalised` counts rows per field and rule of `identifiers.NORMALISATIONS`; `patterns` say in words what many
    rejected cells have in common; `emptied` counts cells per field that are unusable and became missing.
    """

    def __init__(self, n_rows: int) -> None:
        self.field: Objects = np.full(n_rows, None, dtype=object)
        self.reason: Objects = np.full(n_rows, None, dtype=object)
        self.good: Flags = np.ones(n_rows, dtype=bool)
        self.normalised: dict[str, dict[str, int]] = {}
        self.patterns: list[str] = []
        self.emptied: dict[str, int] = {}

    def reject(self, rows: Flags, *, field: str, reason: str) -> None:
        """Reject those of the rows, flags of shape (n,), that were good so far."""
        new = rows & self.good
        if not new.any():
            return
        self.field[new], self.reason[new] = field, reason
        self.good &= ~new

    def empty(self, rows: Flags, *, field: str) -> None:
        """Count cells that are missing from now on, because they are unusable and their rows are not."""
        if count := int(rows.sum()):
            self.emptied[field] = self.emptied.get(field, 0) + count
