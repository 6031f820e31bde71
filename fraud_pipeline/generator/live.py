"""A synthetic world as it is played live: the following days side by side, and attacks that begin now.

Belongs here: which rows are played and when. Must not be here: sending them, words for a person.

The history's customers buy about twice a day, too seldom to watch. Therefore the following four weeks happen at once:
each row at its own time of day, and with its own distance to the customer's other rows. Their frauds are taken out and
played as attacks, one after the other and faster than thieves are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from fraud_pipeline.generator.config import WorldConfig
from fraud_pipeline.generator.world import SyntheticWorld
from fraud_pipeline.schema.transactions import SECOND, TIME_DTYPE, microseconds

DAYS_SIDE_BY_SIDE: Final = 28
ATTACK_SPEED: Final = 20.0
"""A gap of ten minutes between two rows of a thief takes half a minute."""
SHORTEST_GAP: Final = 1.1
"""Seconds: payments of the same second do not see each other."""
LONGEST_GAP: Final = 12.0
_TRUTH: Final = ["kind", "episode_id", "is_fraud"]
_DAY: Final = pd.Timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One fraud episode of one customer; `transactions` are raw rows whose event times begin with the attack."""

    number: int
    kind: str
    customer_id: str
    transactions: pd.DataFrame

    @property
    def begins(self) -> pd.Timestamp:
        first: pd.Timestamp = self.transactions["event_time"].iloc[0]
        return first

    @property
    def ends(self) -> pd.Timestamp:
        last: pd.Timestamp = self.transactions["event_time"].iloc[-1]
        return last


class LiveWorld:
    """Live traffic of the world of a history, by its configuration."""

    def __init__(self, config: WorldConfig) -> None:
        self._world = SyntheticWorld(config)

    def happened(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """The world's own rows with `event_time` in [start, end), such as those of today so far."""
        return self._world.transactions(start=start, end=end)

    def side_by_side(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Raw rows with `event_time` in [start, end), in order of time: those of this day and of the four weeks after.

        Rows of this day keep their ids; the others' ids name the distance in days.
        """
        days = [self.happened(start=start, end=end)]
        for distance in range(1, DAYS_SIDE_BY_SIDE + 1):
            shift = distance * _DAY
            rows = self._world.transactions_with_kind(start=start + shift, end=end + shift)
            rows = rows[~rows["is_fraud"]].drop(columns=_TRUTH)
            ids = rows["transaction_id"] + f"-{distance}"
            times = (rows["event_time"] - shift).astype(TIME_DTYPE)
            days.append(rows.assign(event_time=times, transaction_id=ids))
        return pd.concat(days, ignore_index=True).sort_values("event_time", kind="stable", ignore_index=True)

    def attacks(self, *, start: pd.Timestamp, seconds_between: float, run: str) -> Iterator[Attack]:
        """Endless attacks, the first one at `start`: the fraud episodes of the following four weeks.

        Args:
            start: where the list begins depends on it too, so that another run begins with other customers.
            seconds_between: from the beginning of one attack to the next.
            run: part of every transaction id, so that no id is used twice.

        """
        tomorrow = start.normalize() + _DAY
        rows = self._world.transactions_with_kind(start=tomorrow, end=tomorrow + DAYS_SIDE_BY_SIDE * _DAY)
        frauds = rows[rows["is_fraud"]]
        episodes = [episode for _, episode in frauds.groupby("episode_id", sort=False)]
        first = int(start.timestamp() // 60) % len(episodes)
        number = 0
        while True:
            episode = episodes[(first + number) % len(episodes)]
            number += 1
            begins = start + pd.Timedelta(seconds=(number - 1) * seconds_between)
            yield _played(episode, number=number, begins=begins, run=run)


def _played(episode: pd.DataFrame, *, number: int, begins: pd.Timestamp, run: str) -> Attack:
    gaps = np.diff(microseconds(episode["event_time"])) / SECOND / ATTACK_SPEED
    seconds = np.cumsum([0.0, *np.clip(gaps, SHORTEST_GAP, LONGEST_GAP)])
    ids = [f"{run}-attack-{number}-{position}" for position in range(1, len(episode) + 1)]
    times = (begins + pd.to_timedelta(seconds, unit="s")).floor("us").astype(TIME_DTYPE)
    rows = episode.drop(columns=_TRUTH).assign(event_time=times, transaction_id=ids)
    return Attack(
        number=number,
        kind=str(episode["kind"].iloc[0]),
        customer_id=str(episode["customer_id"].iloc[0]),
        transactions=rows.reset_index(drop=True),
    )
