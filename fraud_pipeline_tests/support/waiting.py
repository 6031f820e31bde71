"""Waiting for what another process or thread does.

Belongs here: patience with an end. Must not be here: what is waited for.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

Found = TypeVar("Found")


def until(ready: Callable[[], Found], *, what: str = "it", seconds: float = 90.0) -> Found:
    """What was found, once it is true; a server that does not answer is not ready yet.

    Args:
        ready: asked again and again.
        what: is named when it never became so.
        seconds: the patience; the machine may be busy with much else.

    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if result := ready():
                return result
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"{what} did not become so within {seconds:g} seconds")
