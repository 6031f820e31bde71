"""Waiting for another process or thread.

Belongs here: polling with a time limit. Must not be here: the conditions.
"""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import httpx

Result = TypeVar("Result")

LIMIT_SECONDS: Final = 600.0
"""How long a test waits for anything outside of it. Only a failing test waits so long; a busy machine needs several
times the quiet one's time, and a limit near that time fails tests of working code."""


def until(ready: Callable[[], Result], *, what: str = "it", seconds: float = LIMIT_SECONDS) -> Result:
    """The result of `ready`, once it is true; a server that does not answer is not ready yet.

    Args:
        ready: called again and again.
        what: the condition in words, for the error.
        seconds: the time limit.

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
