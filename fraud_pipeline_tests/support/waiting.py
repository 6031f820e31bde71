"""Waiting for another process or thread.

Belongs here: polling with a time limit. Must not be here: the conditions.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

Result = TypeVar("Result")


def until(ready: Callable[[], Result], *, what: str = "it", seconds: float = 90.0) -> Result:
    """The result of `ready`, once it is true; a server that does not answer is not ready yet.

    Args:
        ready: called again and again.
        what: the condition in words, for the error.
        seconds: the time limit; the machine may be busy with other work.

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
