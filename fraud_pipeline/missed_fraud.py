"""Missed fraud: is more fraud reported of late that the champion had allowed than the days before let expect?

Belongs here: which reports count, how many were to be expected by now, and how many are too many. Must not be here:
tables, the registry, SQL, orchestration.

A new kind of fraud is too few rows to move a feature, and its labels mature weeks later; but some of its victims call
within hours. So what is compared is like with like: of the frauds of the last days, those that are reported already,
with those of the days before that had been reported as soon. All days are ones that the champion's trees, calibration
and thresholds never saw, and reports tell only of what was not blocked.

Rows of one theft are one piece of evidence: what is counted is incidents, not rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from fraud_pipeline.decisions import decide
from fraud_pipeline.model import FraudModel
from fraud_pipeline.performance import reported_segments, seen_to
from fraud_pipeline.transactions import DAY, TIME_DTYPE, microseconds

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SPANS: Final = (1, 2, 3, 5, 7, 10, 14, 21, 28)
"""Days up to the day of the report in which a surge may have begun."""
MIN_DAYS: Final = 14
"""Days before a surge, and days whose labels have matured, that it takes to know what is usual."""
LIMIT: Final = 1.25
"""The least that counts: incidents as a multiple of the expected ones."""
FALSE_ALARMS: Final = 0.01
"""How often a day may be red by chance, over all spans."""
SAME_INCIDENT: Final = timedelta(days=3)
SHOWN: Final = 12
_EPOCH: Final = date(1970, 1, 1)
_ROW: Final = ["transaction_id", "event_time", "customer_id"]


@dataclass(frozen=True, slots=True)
class Surge:
    """Incidents from `first` on that were reported by now, beside what the days before let expect.

    `p` is the chance of so many without any change, corrected for the number of spans that were looked at.
    """

    first: date
    incidents: int
    expected: float
    p: float

    @property
    def found(self) -> bool:
        """Large, and beyond chance."""
        return self.incidents >= LIMIT * self.expected and self.p <= FALSE_ALARMS


@dataclass(frozen=True, slots=True)
class Group:
    """Incidents of a group of transactions since the same day, reported by now and expected."""

    segment: str
    name: str
    incidents: int
    expected: float


@dataclass(frozen=True, slots=True)
class MissedFraudReport:
    """What is known at the end of `day` of fraud that the champion allowed.

    `incidents` and `expected` are by day from `first` on, shape (days,); `examples` are the newest transactions.
    """

    day: date
    champion: str
    first: date
    incidents: Ints
    expected: Floats
    surge: Surge | None = None
    groups: tuple[Group, ...] = ()
    examples: tuple[str, ...] = ()

    @property
    def red(self) -> bool:
        """Whether there is a surge."""
        return self.surge is not None and self.surge.found

    @property
    def not_judged(self) -> str:
        """Why nothing was compared; empty where it was."""
        if self.surge is not None:
            return ""
        return f"not judged yet: {MIN_DAYS} days with matured labels after those it was trained on are needed"

    @property
    def summary(self) -> str:
        """One line that a person can act on."""
        if self.surge is None:
            return f"Missed fraud of champion {self.champion} is {self.not_judged}."
        told = f"{self.surge.incidents:,} incidents of fraud that champion {self.champion} allowed, "
        told += f"{self.surge.expected:.0f} expected by now"
        if not self.surge.found:
            return f"{self.day}: no surge. Since {self.surge.first}: {told}."
        most = f", most of all {self.groups[0].segment} {self.groups[0].name}" if self.groups else ""
        return (
            f"{self.day}: a surge since {self.surge.first}: {told}{most}. Look at the newest ones: a new kind of fraud "
            "is for people to stop, until its labels have matured and a training can learn it."
        )

    def to_markdown(self) -> str:
        """The finding, the groups with the largest excess and the newest transactions."""
        if self.surge is None:
            return self.summary
        shown = [Group("", "all", self.surge.incidents, self.surge.expected), *self.groups[:SHOWN]]
        rows = (
            f"| {f'{one.segment}: ' * bool(one.segment)}{one.name.replace('|', '/')} "
            f"| {one.incidents:,} | {one.expected:.1f} |"
            for one in shown
        )
        newest = f"Newest: {', '.join(self.examples)}" if self.examples else "None was reported."
        table = "\n".join([f"| since {self.surge.first} | reported | expected |", "|---|---:|---:|", *rows])
        return f"{self.summary} p = {self.surge.p:.2g}.\n\n{table}\n\n{newest}"


def unseen_from(model: FraudModel) -> date:
    """The first whole day that neither trees nor calibration nor thresholds saw: the model's test part and on."""
    first = model.lineage.get("evaluated_from")
    # A model of an earlier release does not say where its test part began.
    return (pd.Timestamp(first).ceil("D") if first else seen_to(model).floor("D") + pd.Timedelta(days=1)).date()


def allowed_frauds(
    model: FraudModel, features: pd.DataFrame, transactions: pd.DataFrame, served: pd.DataFrame
) -> pd.DataFrame:
    """The transactions that the model allowed: transaction_id, event_time, customer_id, and the group of each segment.

    features: rows that somebody reported; `transactions` hold the same rows; `served` are decisions of this model:
    transaction_id, decision. A row that it did not serve counts with what it decides on the row's features.
    """
    if features.empty:
        return pd.DataFrame({name: [] for name in _ROW}).astype({"event_time": TIME_DTYPE})
    decided = pd.Series(decide(model.predict(features), model.policy), index=features["transaction_id"].to_numpy())
    decided.update(served.set_index("transaction_id")["decision"])
    rows = transactions[transactions["transaction_id"].isin(decided.index[decided == "allow"])]
    return rows[_ROW].assign(**reported_segments(rows))


def missed_fraud_report(
    day: date,
    allowed: pd.DataFrame,
    reports: pd.DataFrame,
    volume: Mapping[date, int],
    *,
    champion: str,
    first: date,
    label_maturity: timedelta,
) -> MissedFraudReport:
    """What is known at the end of `day`; `allowed` is of `allowed_frauds`, `volume` transactions by day from `first`.

    Reports of later instants and rows of later days change nothing.
    """
    start, size = (first - _EPOCH).days, max(0, (day - first).days + 1)
    per_day = np.array([volume.get(first + timedelta(days=number), 0) for number in range(size)], dtype=np.int64)
    found = _incidents(allowed, reports, as_of=pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1))
    found = found[(found["event_day"] >= start) & (found["event_day"] < start + size)]
    event, reported = (found[name].to_numpy(np.int64) - start for name in ("event_day", "report_day"))
    counts = np.bincount(event, minlength=size).astype(np.int64)
    most = _most_surprising(event, reported, per_day, matured=size - label_maturity // timedelta(days=1))
    if most is None:
        return MissedFraudReport(day=day, champion=champion, first=first, incidents=counts, expected=np.zeros(size))
    since, p = most
    expected = expected_incidents(event, reported, per_day, since=since)
    recent = event >= since
    groups = [
        Group(
            segment=segment,
            name=str(name),
            incidents=int(recent[mine].sum()),
            expected=float(expected_incidents(event[mine], reported[mine], per_day, since=since)[since:].sum()),
        )
        for segment in allowed.columns.drop(_ROW)
        for name in found[segment].dropna().unique()
        for mine in [(found[segment] == name).to_numpy()]
    ]
    newest = found[recent].sort_values("event_time", ascending=False)["transaction_id"]
    return MissedFraudReport(
        day=day,
        champion=champion,
        first=first,
        incidents=counts,
        expected=expected,
        surge=Surge(first + timedelta(days=since), int(recent.sum()), float(expected[since:].sum()), p),
        groups=tuple(sorted(groups, key=lambda one: one.expected - one.incidents)),
        examples=tuple(newest[:SHOWN]),
    )


def expected_incidents(event: Ints, reported: Ints, volume: Ints, *, since: int) -> Floats:
    """Incidents of each day that would be reported by now if nothing had changed since a day, shape (days,).

    event, reported: day of each incident and of its report (n,), as an index of volume, transactions by day (days,).
    From `since` on a day counts with the share of earlier incidents that were reported as soon as it could have been.
    """
    before = event < since
    delay = np.bincount(np.minimum((reported - event)[before], len(volume)), minlength=len(volume) + 1)
    rate = np.cumsum(delay) / max(volume[:since].sum(), 1)
    age = len(volume) - 1 - np.arange(len(volume))
    return np.asarray(volume * np.where(np.arange(len(volume)) < since, rate[-1], rate[age]))


def chance_of_more(incidents: float, *, expected: float, exposure: float) -> float:
    """Chance of so many incidents or more where the days before let expect `expected`.

    exposure: transactions of the last days as a multiple of those of the days before; the smaller, the better is known
    what to expect. Source: Przyborowski and Wilenski, "Homogeneity of results in testing samples from Poisson series",
    Biometrika 1940.
    """
    if not incidents:
        return 1.0
    return float(special.betainc(incidents, expected / exposure + 1, exposure / (1 + exposure)))


def _most_surprising(event: Ints, reported: Ints, volume: Ints, *, matured: int) -> tuple[int, float] | None:
    """The day since when so many incidents are the least likely, and how likely they are; large surges come first."""
    if matured < MIN_DAYS:
        return None
    clumped = _dispersion(event, volume, matured=matured)
    found = []
    for since in (len(volume) - span for span in SPANS):
        if since < MIN_DAYS or not volume[:since].sum() or not volume[since:].sum():
            continue
        incidents = int((event >= since).sum())
        expected = float(expected_incidents(event, reported, volume, since=since)[since:].sum())
        exposure = float(volume[since:].sum() / volume[:since].sum())
        p = chance_of_more(incidents / clumped, expected=expected / clumped, exposure=exposure)
        found.append((incidents < LIMIT * expected, min(1.0, p * len(SPANS)), since))
    if not found:
        return None
    _, p, since = min(found)
    return since, p


def _dispersion(event: Ints, volume: Ints, *, matured: int) -> float:
    """How many times as much as chance alone the incidents of a day vary, at least 1 (Pearson's statistic).

    One compromised shop makes several incidents; then each counts for less.
    """
    counts = np.bincount(event, minlength=len(volume))[:matured]
    expected = volume[:matured] * counts.sum() / max(volume[:matured].sum(), 1)
    there = expected > 0
    if there.sum() < 2:
        return 1.0
    statistic = ((counts[there] - expected[there]) ** 2 / expected[there]).sum() / (there.sum() - 1)
    return float(max(1.0, statistic))


def _incidents(allowed: pd.DataFrame, reports: pd.DataFrame, *, as_of: pd.Timestamp) -> pd.DataFrame:
    """The first row of each incident, with the day of it and of the first report about any row of it."""
    known = reports[reports["reported_at"] < as_of].sort_values(["reported_at", "is_fraud"])
    latest = known.drop_duplicates("transaction_id", keep="last").set_index("transaction_id")["is_fraud"]
    told = known[known["is_fraud"]].drop_duplicates("transaction_id").set_index("transaction_id")["reported_at"]
    still = allowed["transaction_id"].isin(latest.index[latest]) & (allowed["event_time"] < as_of)
    rows = allowed[still].sort_values(["customer_id", "event_time"])
    rows = rows.assign(reported_at=told.reindex(rows["transaction_id"]).to_numpy())
    gap = rows.groupby("customer_id")["event_time"].diff()
    incident = (gap.isna() | (gap > SAME_INCIDENT)).cumsum()
    rows["reported_at"] = rows.groupby(incident)["reported_at"].transform("min")
    first = rows[~incident.duplicated()]
    event_day, report_day = (microseconds(first[name]) // DAY for name in ("event_time", "reported_at"))
    return first.assign(event_day=event_day, report_day=np.maximum(report_day, event_day))
