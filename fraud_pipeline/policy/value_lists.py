"""Lists of values: who is trusted, which merchant is blocked, from which network an attack comes.

Belongs here: membership, end dates, prefixes and networks. Must not be here: storage (`database/value_lists.py`),
expressions (`expressions.py`).

A list holds a 64-bit hash and an end for each value: 16 bytes, so a million values take 16 MB. Two of a million values
share a hash with a probability of 3 in a hundred million.
"""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Match = Literal["exact", "prefix", "cidr"]
MATCHES: Final[tuple[Match, ...]] = get_args(Match)
NO_END: Final = np.iinfo(np.int64).max
_WORTH_FACTORIZING: Final = 64
_NO_KEYS: Final = np.zeros(0, np.int64)


def list_key(value: str, match: Match) -> int:
    """The hash of a value of a list. Raises ValueError for a network that is none."""
    return _hash(stored_value(value, match))


def stored_value(value: str, match: Match) -> str:
    """The one spelling of a value: a network as address and length. Raises ValueError for a network that is none."""
    if match != "cidr":
        return value
    try:
        return str(ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"{value}: no address or network; write 192.0.2.17 or 192.0.2.0/24") from None


def width_of(value: str, match: Match) -> str:
    """What a lookup must know about a stored value: the length of a prefix, or version and length of a network."""
    if match == "prefix":
        return str(len(value))
    return f"{6 if ':' in value else 4}/{value.rpartition('/')[2]}" if match == "cidr" else ""


@dataclass(frozen=True, slots=True, eq=False)
class ValueList:
    """The hashes of a list's values in ascending order, and the end of each in microseconds; both of shape (values,).

    `widths` are the lengths of its prefixes or networks, as `width_of` gives them.
    """

    match: Match = "exact"
    keys: NDArray[np.int64] = field(default_factory=lambda: _NO_KEYS)
    ends: NDArray[np.int64] = field(default_factory=lambda: _NO_KEYS)
    widths: frozenset[str] = frozenset()

    @classmethod
    def of(cls, values: dict[str, int], *, match: Match = "exact") -> Self:
        """The list of these values with their ends."""
        spelled = {stored_value(value, match): end for value, end in values.items()}
        return cls(match=match).changed(
            np.array([_hash(value) for value in spelled], np.int64),
            np.array(list(spelled.values()), np.int64),
            widths={width_of(value, match) for value in spelled},
        )

    def changed(self, keys: NDArray[np.int64], ends: NDArray[np.int64], *, widths: set[str]) -> Self:
        """The list after changes: new ends of these hashes; an end of 0 removes a value. The last change of one counts.

        A removed width stays, which costs a lookup and changes no result.
        """
        if not len(keys):
            return self
        newest, first = np.unique(keys[::-1], return_index=True)
        newest_ends = ends[::-1][first]
        kept = ~_holds(newest, self.keys)
        stays = newest_ends > 0
        all_keys = np.concatenate([self.keys[kept], newest[stays]])
        all_ends = np.concatenate([self.ends[kept], newest_ends[stays]])
        order = np.argsort(all_keys, kind="stable")
        return type(self)(
            match=self.match, keys=all_keys[order], ends=all_ends[order], widths=self.widths | frozenset(widths)
        )

    def contains(self, values: NDArray[np.object_], at: NDArray[np.int64]) -> NDArray[np.int8]:
        """1 where a value is in the list at that time (microseconds), -1 where not, 0 for None; shapes (n,)."""
        if len(values) < _WORTH_FACTORIZING:
            ends = self._ends(values)
        else:
            codes, distinct = pd.factorize(values)
            # The last place is what the code -1 of a missing value reads.
            ends = np.append(self._ends(distinct), 0)[codes]
        result = np.where(ends > at, 1, -1).astype(np.int8)
        result[is_none(values)] = 0
        return result

    def _ends(self, values: NDArray[np.object_]) -> NDArray[np.int64]:
        """The latest end of the entries that match each value, 0 where none does; shape (n,)."""
        ends = np.zeros(len(values), np.int64)
        texts = [
            (owner, text)
            for owner, value in enumerate(values)
            if value is not None
            for text in ((value,) if self.match == "exact" else self._candidates(value))
        ]
        owners, hashes = [owner for owner, _ in texts], [_hash(text) for _, text in texts]
        if hashes and len(self.keys):
            wanted = np.array(hashes, np.int64)
            at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            np.maximum.at(ends, owners, np.where(self.keys[at] == wanted, self.ends[at], 0))
        return ends

    def _candidates(self, value: str) -> list[str]:
        """The prefixes, or networks, that hold the value and could be in the list."""
        if self.match == "prefix":
            return [value[:length] for length in map(int, self.widths) if length <= len(value)]
        try:
            address = ip_address(value)
        except ValueError:
            return []
        of_version = f"{address.version}/"
        lengths = [width.removeprefix(of_version) for width in self.widths if width.startswith(of_version)]
        return [str(ip_network(f"{address}/{length}", strict=False)) for length in lengths]


def is_none(values: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Whether each value is None, shape (n,)."""
    return np.asarray(values == np.array(None, object), np.bool_)


@lru_cache(maxsize=4_096)  # a transaction asks several lists about one value
def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def _holds(sorted_keys: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each of `keys` is one of `sorted_keys`, of which there is at least one."""
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    held: NDArray[np.bool_] = sorted_keys[at] == keys
    return held
