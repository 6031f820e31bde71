"""TOML as text: the lines of its keys, for messages, and single keys and values to write.

Belongs here: what `tomllib` leaves out. Must not be here: the meaning of a key.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import datetime
from typing import Final

KeyPath = tuple[str, ...]


class KeyedError(ValueError):
    """A problem of one key of a TOML file."""

    def __init__(self, key: KeyPath, problem: str) -> None:
        super().__init__(problem)
        self.key, self.problem = key, problem


_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_HEADER: Final = re.compile(rf"\s*\[\[?\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*\]")
_ASSIGNED: Final = re.compile(rf"\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*=")


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """The line, from 1, on which each key or table of valid TOML first stands."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if header := _HEADER.match(line):
                path = table = tuple(_parts(header[1]))
            elif assigned := _ASSIGNED.match(line):
                path = (*table, *_parts(assigned[1]))
            else:
                continue
        except tomllib.TOMLDecodeError:  # a line of a text over several lines, which only looks like a key
            continue
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], number)
    return lines


def _parts(dotted: str) -> Iterator[str]:
    for part in re.findall(_KEY, dotted):
        yield next(iter(tomllib.loads(f"{part} = 0")))


def toml_value(value: object) -> str:
    """A text, a number, a time in UTC, or a tuple of these."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(key: str) -> str:
    """A key, in quotes where it needs them."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)
