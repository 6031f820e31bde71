"""Charts of the analysts' desk: caught and missed fraud, alerts by outcome, a merchant's payments.

Belongs here: charts of read frames. Must not be here: the style of every chart (`chart_style.py`), SQL.
"""

from collections.abc import Mapping
from typing import Final

import altair as alt
import pandas as pd

from fraud_pipeline.reporting.chart_style import AMBER, FRAUD, GRID, LEGITIMATE, QUIET, Chart, named_colours

CAUGHT: Final[Mapping[str, str]] = {"blocked": LEGITIMATE, "to review": AMBER, "missed": FRAUD}
OUTCOMES: Final[Mapping[str, str]] = {"fraud": FRAUD, "legitimate": LEGITIMATE, "duplicate": QUIET, "waiting": GRID}
_DAY: Final = alt.X("utcyearmonthdate(day):T", title=None, axis=alt.Axis(format="%d %b", labelOverlap=True))


def frauds_per_day(frauds: pd.DataFrame) -> Chart:
    """Bars of reported fraud by day, by what was decided; `frauds` as `read_frauds_by_decision` gives them."""
    names = {"block": "blocked", "review": "to review", "allow": "missed"}
    rows = frauds.assign(name=frauds["decision"].map(names)).groupby(["day", "name"]).size().reset_index(name="size")
    return _bars(rows, value="size", title="reported frauds", colours=CAUGHT)


def alerts_per_day(outcomes: pd.DataFrame) -> Chart:
    """Bars of alerts by the day they opened, by outcome; `outcomes` as `read_alert_outcomes` gives them."""
    names = {"confirmed_fraud": "fraud", "legitimate": "legitimate", "duplicate": "duplicate"}
    rows = outcomes.assign(name=outcomes["status"].map(names).fillna("waiting"))
    return _bars(
        rows.groupby(["day", "name"])["alerts"].sum().reset_index(), value="alerts", title="alerts", colours=OUTCOMES
    )


def payments_per_day(volume: pd.DataFrame, frauds: pd.DataFrame) -> Chart:
    """Bars of a merchant's payments by day, those reported as fraud in red."""
    by_day = frauds.groupby(frauds["event_time"].dt.floor("D")).size()
    reported = volume["day"].map(by_day).fillna(0)
    parts = {"fraud": reported, "others": volume["transactions"] - reported}
    rows = pd.concat([pd.DataFrame({"day": volume["day"], "name": name, "size": size}) for name, size in parts.items()])
    return _bars(rows, value="size", title="payments", colours={"fraud": FRAUD, "others": LEGITIMATE})


def _bars(rows: pd.DataFrame, *, value: str, title: str, colours: Mapping[str, str]) -> Chart:
    return (
        alt.Chart(rows).mark_bar().encode(x=_DAY, y=alt.Y(f"sum({value}):Q", title=title), color=named_colours(colours))
    )
