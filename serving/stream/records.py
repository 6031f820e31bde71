"""What is known of a record that was read from a topic.

Belongs here: where it stands and what is looked at of it. Must not be here: what it says (`messages.py`).
"""

from typing import NamedTuple, Protocol

from serving.stream.messages import Headers


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(Protocol):
    """What is looked at of a record that was read."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """When it was sent, in milliseconds since 1970-01-01 UTC; -1 when nobody said."""
        ...

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...
