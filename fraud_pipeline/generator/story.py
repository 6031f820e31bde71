"""The scenarios of the world as data: kinds of fraud, and legitimate events that look like fraud.

Belongs here: categories, speed, places and amounts of each scenario, and what difficulty changes. Must not be here:
random draws. An episode is a chain: a first use some days after the compromise, then rows of one or two stages. Each
row is followed by another with a fixed probability, so that the oracle can compute how likely any row is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.generator.categories import CategoryName, by_category

NEVER: Final = np.iinfo(np.int64).max
MAX_STAGES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of an episode. For thieves, `at_home`, `shift` and `night` move towards the victim's with difficulty.

    `rows` is the mean of a geometric count, `online` a chance, `at_home` the chance to act from the victim's place,
    `shift` the log factor on the category's usual amount (on `price`, if given), `gap_minutes` the median gap,
    `ring` the chance to use one of the few merchants that thieves favour for four weeks.
    """

    rows: float
    categories: Mapping[CategoryName, float]
    online: float
    at_home: float
    shift: float
    gap_minutes: float
    price: float | None = None
    spread: float = 0.5
    ring: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of episode. `share` is its share of fraud rows; for legitimate scenarios, episodes per fraud episode.

    `own`: the customer acts, at the customer's place and price level. `victims_per_terminal` above 0: the victims are
    regular customers of one compromised shop.
    """

    name: str
    fraud: bool
    share: float
    stages: tuple[Stage, ...]
    delay_days: float = 0.0
    night: float = 0.0
    own: bool = False
    victims_per_terminal: int = 0


_GOODS: Final[Mapping[CategoryName, float]] = {
    "electronics": 0.18, "clothing": 0.16, "digital": 0.28, "home": 0.08, "luxury": 0.03, "travel": 0.1,
    "entertainment": 0.1, "transport": 0.07,
}  # fmt: skip
_SMALL: Final[Mapping[CategoryName, float]] = {"digital": 0.5, "transport": 0.2, "entertainment": 0.15, "grocery": 0.15}
_SHOPS: Final[Mapping[CategoryName, float]] = {
    "grocery": 0.31, "fuel": 0.11, "restaurant": 0.16, "transport": 0.06, "clothing": 0.1, "electronics": 0.08,
    "health": 0.05, "entertainment": 0.05, "home": 0.04, "cash": 0.04,
}  # fmt: skip
_TRANSFER: Final[Mapping[CategoryName, float]] = {"transfer": 1.0}

SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario(
        name="big_purchase", fraud=False, share=1.1, own=True,
        stages=(Stage(
            rows=1.2, online=0.45, at_home=0.97, shift=1.5, gap_minutes=40, spread=0.7,
            categories={"electronics": 0.3, "home": 0.25, "travel": 0.2, "luxury": 0.1, "transfer": 0.15},
        ),),
    ),
    Scenario(
        name="fair_burst", fraud=False, share=0.9, own=True,
        stages=(Stage(
            rows=4.0, online=0.0, at_home=0.97, shift=-0.2, gap_minutes=18, spread=0.6,
            categories={"restaurant": 0.4, "entertainment": 0.3, "clothing": 0.15, "cash": 0.05, "transport": 0.1},
        ),),
    ),
    Scenario(
        name="online_spree", fraud=False, share=1.1, own=True, night=0.15,
        stages=(Stage(rows=3.0, online=1.0, at_home=0.9, shift=0.3, gap_minutes=15, spread=0.7, categories=_GOODS),),
    ),
    Scenario(
        name="card_testing", fraud=True, share=0.2, delay_days=3.0, night=0.6,
        stages=(
            Stage(rows=3.0, online=1, at_home=0.05, shift=0, price=1.5, gap_minutes=2, categories=_SMALL, ring=0.8),
            Stage(rows=4.5, online=1, at_home=0.05, shift=1.6, gap_minutes=5, categories=_GOODS, ring=0.7),
        ),
    ),
    Scenario(
        name="stolen_number", fraud=True, share=0.13, delay_days=4.0, night=0.5,
        stages=(Stage(rows=5.0, online=1, at_home=0.1, shift=1.6, gap_minutes=9, categories=_GOODS, ring=0.7),),
    ),
    Scenario(
        name="skimmed_terminal", fraud=True, share=0.27, delay_days=4.0, night=0.4, victims_per_terminal=4,
        stages=(Stage(
            rows=5.0, online=0, at_home=0.0, shift=1.2, gap_minutes=9,
            categories={**_SHOPS, "cash": 0.25},
        ),),
    ),
    Scenario(
        name="account_takeover", fraud=True, share=0.07, delay_days=2.0, night=0.5,
        stages=(Stage(
            rows=3.0, online=1, at_home=0.1, shift=1.9, gap_minutes=8, ring=0.7,
            categories={"transfer": 0.75, "digital": 0.15, "electronics": 0.1},
        ),),
    ),
    Scenario(
        name="lost_card", fraud=True, share=0.26, delay_days=0.5, night=0.4,
        stages=(Stage(rows=6.0, online=0, at_home=1, shift=1.0, gap_minutes=7, categories=_SHOPS),),
    ),
    Scenario(
        name="payment_scam", fraud=True, share=0.07, own=True,
        stages=(Stage(rows=1.8, online=1, at_home=0.97, shift=2.2, gap_minutes=60, ring=0.6, categories=_TRANSFER),),
    ),
    Scenario(
        name="wallet_theft", fraud=True, share=0.3, delay_days=1.0, night=0.1,
        stages=(Stage(
            rows=3.5, online=0, at_home=0.9, shift=0.8, gap_minutes=12,
            categories={"electronics": 0.3, "luxury": 0.15, "clothing": 0.25, "grocery": 0.3},
        ),),
    ),
)  # fmt: skip
NEW_SCENARIO: Final = "wallet_theft"

# Ordinary life first, then every story; the index in this tuple is the kind of a row.
STATES_OF_LIFE: Final = ("ordinary", "travel", "moving_house")
KINDS: Final[tuple[str, ...]] = (*STATES_OF_LIFE, *(scenario.name for scenario in SCENARIOS))
FRAUD_KIND: Final[NDArray[np.bool_]] = np.array([False] * 3 + [scenario.fraud for scenario in SCENARIOS])


def episode_number(kind: NDArray[np.int64] | int, period: int, number: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number above 0 for each episode, unique in the world: kind, period (day, year ...) and number in it."""
    return np.asarray((np.asarray(kind, dtype=np.int64) << 56) + (period << 32) + number + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """All stages as arrays at one difficulty, each (scenarios, MAX_STAGES); `taste` adds a category axis.

    Difficulty makes fraudsters imitate the victim. `mimicry` is the probability that they buy what the victim would
    buy, and the weight of the victim's price level in the amount.
    """

    more: NDArray[np.float64]
    exists: NDArray[np.bool_]
    online: NDArray[np.float64]
    at_home: NDArray[np.float64]
    shift: NDArray[np.float64]
    log_price: NDArray[np.float64]
    spread: NDArray[np.float64]
    log_gap: NDArray[np.float64]
    ring: NDArray[np.float64]
    taste: NDArray[np.float64]
    own: NDArray[np.bool_]
    fraud: NDArray[np.bool_]
    night: NDArray[np.float64]
    mimicry: float


def stages_at(difficulty: float) -> Stages:
    """The stages of every scenario as arrays, with thieves' behaviour moved towards the victim's by difficulty."""
    mimicry = difficulty**2  # at the middle of the scale a good model finds most fraud
    shape = (len(SCENARIOS), MAX_STAGES)
    values = {name: np.zeros(shape) for name in ("more", "online", "at_home", "shift", "spread", "log_gap", "ring")}
    log_price = np.full(shape, np.nan)
    taste = np.zeros((*shape, len(by_category({}, default=0.0))))
    exists = np.zeros(shape, dtype=bool)
    for s, scenario in enumerate(SCENARIOS):
        pull = 0.0 if scenario.own else mimicry
        for a, stage in enumerate(scenario.stages):
            exists[s, a] = True
            values["more"][s, a] = 1 - 1 / stage.rows
            values["online"][s, a] = stage.online
            values["at_home"][s, a] = stage.at_home + (1 - stage.at_home) * 0.5 * pull
            values["shift"][s, a] = stage.shift * (1 - 0.5 * pull)
            values["spread"][s, a] = stage.spread + 0.3 * pull
            values["log_gap"][s, a] = np.log(stage.gap_minutes) + 1.2 * pull
            values["ring"][s, a] = stage.ring * (1 - 0.5 * pull)
            log_price[s, a] = np.nan if stage.price is None else np.log(stage.price * 100) + pull
            weights = by_category(stage.categories, default=0.0)
            taste[s, a] = weights / weights.sum()
    return Stages(
        **values,
        exists=exists,
        log_price=log_price,
        taste=taste,
        own=np.array([scenario.own for scenario in SCENARIOS]),
        fraud=np.array([scenario.fraud for scenario in SCENARIOS]),
        night=np.array([s.night * (1 if s.own else 1 - 0.6 * mimicry) for s in SCENARIOS]),
        mimicry=mimicry * 0.5,
    )
