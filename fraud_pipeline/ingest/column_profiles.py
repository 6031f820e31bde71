"""A column's sample, and facts about its values that are computed at first use.

Belongs here: facts about the values of one column. Must not be here: names of columns, conclusions.
"""

import re
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_pipeline.ingest.number_spellings import AmbiguousNumbersError, read_numbers
from fraud_pipeline.schema.identifiers import NOTHING_PATTERN

NEARLY_ALL: Final = 0.99
"""Share of the filled cells that must fit, so that a few damaged cells do not decide."""
_YES_NO: Final = (("1", "0"), ("1.0", "0.0"), ("true", "false"), ("t", "f"), ("yes", "no"), ("y", "n"))
"""Spellings of yes and no that become a boolean."""
_EMAIL: Final = r"^[^@\s]+@[^@\s]+\.[A-Za-z]{2,}$"
_IP: Final = r"^(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?:/[0-9]{1,3})?$"
_COUNTRY: Final = r"^[A-Za-z]{2}$"


@dataclass(frozen=True)
class Profile:
    """A sample of one column. `cells` are text (CSV) or of the types of a Parquet file; `rows` are their row numbers.

    A row number of -1 is not known.
    """

    name: str
    cells: pa.Array
    rows: NDArray[np.int64] = dataclass_field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @cached_property
    def text(self) -> pa.Array:
        """The cells as trimmed text, null where a cell holds nothing."""
        cells = self.cells.dictionary_decode() if pa.types.is_dictionary(self.cells.type) else self.cells
        try:
            text = pc.utf8_trim_whitespace(cells.cast(pa.string()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return pa.nulls(len(cells), pa.string())
        nothing = pc.match_substring_regex(text, f"(?i)^{NOTHING_PATTERN}$")
        return pc.if_else(nothing, None, text)

    @cached_property
    def is_nested(self) -> bool:
        """Whether the cells are lists, structures or bytes, which no field holds."""
        kind = self.cells.type
        return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    @cached_property
    def filled(self) -> int:
        """The number of cells that hold something."""
        return len(self.text) - int(self.text.null_count)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Each value and its number of cells, the most frequent first."""
        pairs = [(pair["values"].as_py(), pair["counts"].as_py()) for pair in pc.value_counts(self.text.drop_null())]
        return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))

    @cached_property
    def distinct(self) -> int:
        """The number of different values."""
        return int(pc.count_distinct(self.text, mode="only_valid").as_py())

    @property
    def distinct_share(self) -> float:
        """Different values per filled cell: 1 where no value occurs twice."""
        return self.distinct / self.filled if self.filled else 0.0

    @property
    def is_unique(self) -> bool:
        """Whether all cells are filled and (nearly) no value occurs twice."""
        return self.filled == len(self.text) and self.distinct_share > 0.999

    @cached_property
    def numbers(self) -> NDArray[np.float64] | None:
        """The cells as numbers, NaN where missing; None if they are no numbers."""
        kind = self.cells.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return np.asarray(self.cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
        if pa.types.is_boolean(kind) or pa.types.is_temporal(kind) or not self.fits(r"[0-9]"):
            return None
        try:
            numbers = read_numbers(self.text, grouped=True)
        except AmbiguousNumbersError:
            numbers = read_numbers(self.text, grouped=False)
        if numbers is None:
            return None
        values = numbers.values
        if pa.types.is_string(values.type):
            readable = pc.match_substring_regex(values, r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$")
            if (pc.sum(readable).as_py() or 0) < NEARLY_ALL * self.filled:
                return None
            values = pc.if_else(readable, values, None).cast(pa.float64())
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)

    @cached_property
    def present_numbers(self) -> NDArray[np.float64]:
        """The finite numbers, without gaps; empty for a column of other things."""
        return np.empty(0) if self.numbers is None else self.numbers[np.isfinite(self.numbers)]

    @cached_property
    def is_number(self) -> bool:
        """Whether the column holds numbers."""
        return len(self.present_numbers) > 0

    @cached_property
    def is_whole(self) -> bool:
        """Whether the column holds whole numbers only."""
        return self.is_number and bool((self.present_numbers == np.trunc(self.present_numbers)).all())

    @cached_property
    def may_have_groups(self) -> bool:
        """Whether the marks could stand between thousands as well as before decimals, as in 1.234 and 2.500."""
        try:
            read_numbers(self.text, grouped=True)
        except AmbiguousNumbersError:
            return True
        return False

    @cached_property
    def has_groups(self) -> bool:
        """Whether some cell marks its thousands, as 1.234,56 does."""
        return bool(pc.any(pc.match_substring_regex(self.text, r"[0-9][.,' ][0-9]{3}[.,]")).as_py())

    @cached_property
    def has_leading_zeros(self) -> bool:
        """Whether some cell begins with a zero that a number would lose."""
        return bool(pc.any(pc.match_substring_regex(self.text, r"^0[0-9]+$")).as_py())

    @cached_property
    def counts_rows(self) -> bool:
        """Whether the whole numbers grow by one with (nearly) every row."""
        numbers = self.present_numbers
        if not self.is_whole or not self.is_unique or len(numbers) < 3:
            return False
        steps = np.diff(numbers)
        return bool((steps == 1).mean() > NEARLY_ALL - 0.01)

    @cached_property
    def yes(self) -> tuple[str, str] | None:
        """The spellings (yes, no) of a column that holds nothing else."""
        if pa.types.is_boolean(self.cells.type):
            return "true", "false"
        if self.distinct > 2:
            return None
        words = {value.lower() for value in self.counts}
        return next((pair for pair in _YES_NO if words and words <= set(pair)), None)

    def fits(self, pattern: str) -> bool:
        """Whether (nearly) all filled cells match a regular expression."""
        matched = pc.sum(pc.match_substring_regex(self.text, pattern)).as_py() or 0
        return self.filled > 0 and matched >= NEARLY_ALL * self.filled

    @cached_property
    def is_email(self) -> bool:
        return self.fits(_EMAIL)

    @cached_property
    def is_ip(self) -> bool:
        return self.fits(_IP)

    @cached_property
    def is_country(self) -> bool:
        """Whether the cells look like two-letter country codes."""
        return self.fits(_COUNTRY)

    @cached_property
    def has_spaces(self) -> bool:
        """Whether most cells consist of several words."""
        several = pc.sum(pc.match_substring_regex(self.text, r"\S\s+\S")).as_py() or 0
        return self.filled > 0 and several > 0.5 * self.filled


def listed(values: list[str]) -> str:
    """Values in words: `a, b and c`."""
    return " and ".join(part for part in (", ".join(values[:-1]), values[-1] if values else "") if part)


def plain_count(count: int, noun: str) -> str:
    """A count with its noun: `1 value`, `1,204 values`."""
    plural = re.sub("y$", "ie", noun) + "s" if count != 1 else noun
    return f"{count:,} {plural}"
