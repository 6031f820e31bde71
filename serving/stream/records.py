"""A record that was read from a topic, and its partition.

Belongs here: the used attributes of a record. Must not be here: its content (`messages.py`).
"""

from typing import NamedTuple, Protocol

from serving.stream.messages import Headers


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(Protocol):
    """The used attributes of a record."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """The time of sending in milliseconds since 1970-01-01 UTC; -1 when the record has none."""
        ...

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...
