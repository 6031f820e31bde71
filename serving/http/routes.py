"""The declared route of a path: the name of a request in metrics and spans, never the path as sent.

Belongs here: that one look-up. Must not be here: authorization of a path (`guard.py`).
"""

from collections.abc import Collection
from typing import Final

OTHER_ROUTE: Final = "other"


class Routes:
    """Routes by path; a last {name} matches the rest of the path, and the longest beginning wins."""

    def __init__(self, routes: Collection[str]) -> None:
        self._exact = frozenset(route for route in routes if "{" not in route)
        below: dict[str, str] = {}
        for route in routes:
            start, brace, name = route.partition("{")
            if name.find("}") != len(name) - 1:
                raise ValueError(f"{route}: only a last {{name}} can stand for any text")
            if brace:
                below[start] = route
        self._below = {start: below[start] for start in sorted(below, key=len, reverse=True)}

    def of(self, path: str) -> str:
        """The route of a path, or OTHER_ROUTE."""
        if path in self._exact:
            return path
        return next((route for start, route in self._below.items() if path.startswith(start)), OTHER_ROUTE)
