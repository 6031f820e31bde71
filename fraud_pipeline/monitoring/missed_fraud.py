"""Missed fraud: is more fraud reported of late that the champion had allowed than the days before let expect?

Belongs here: which reports count, which groups of them are looked at, and how it is told. Must not be here: how many
are too many (`surge_test.py`), tables, the registry, SQL, orchestration.

A new kind of fraud is too few rows to move a feature, and its labels mature weeks later; but some of its victims call
within hours. So what is compared is like with like: of the frauds of the last days, those that are reported already,
with those of the days before that had been reported as soon. All days are ones that the champion's trees, calibration
and thresholds never saw, and reports tell only of what was not blocked.

Rows of one theft are one piece of evidence: what is counted is incidents, not rows. A new kind of fraud mostly keeps to
one channel, where it stands out sooner: each channel is looked at by itself, too. And thieves go by who has a card, not
by how busy a pay day is: what incidents are measured by is customers, not transactions.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.monitoring.performance import reported_segments, seen_to
from fraud_pipeline.monitoring.surge_test import MIN_DAYS, Surge, compared, expected_incidents, most_significant_excess
from fraud_pipeline.policy.decisions import decide
from fraud_pipeline.schema.joins import positions_of, rows_of
from fraud_pipeline.schema.transactions import DAY, TIME_DTYPE, microseconds

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LOOKED_AT: Final = "channel"
"""The segment whose groups are looked at by themselves; not categories, for thieves move from shop to shop."""
ACTIVE_DAYS: Final = 28
"""Days for which a payment makes a customer one who has a card."""
SAME_INCIDENT: Final = timedelta(days=3)
SHOWN: Final = 12
_EPOCH: Final = date(1970, 1, 1)
_ROW: Final = ["transaction_id", "event_time", "customer_id"]
_DAYS: Final = ["reported_at", "event_day", "report_day"]


@dataclass(frozen=True, slots=True)
class Group:
    """Those incidents of a surge that are of a group of transactions, reported by now and expected."""

    segment: str
    name: str
    incidents: int
    expected: float


@dataclass(frozen=True, slots=True)
class MissedFraudReport:
    """What is known at the end of `day` of fraud that the champion allowed.

    `group` is the channel that the surge is of, as "channel online"; empty is all. Of it are the newest transactions,
    `examples`, and `incidents` and `expected` by day from `first` on, shape (days,).
    """

    day: date
    champion: str
    first: date
    incidents: Ints
    expected: Floats
    surge: Surge | None = None
    group: str = ""
    groups: tuple[Group, ...] = ()
    examples: tuple[str, ...] = ()

    @property
    def red(self) -> bool:
        """Whether there is a surge."""
        return self.surge is not None and self.surge.found

    @property
    def since(self) -> date | None:
        """The day on which the surge began."""
        return self.first + timedelta(days=self.surge.since) if self.surge else None

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
        where = f" in {self.group}" if self.group else ""
        told = f"{self.surge.incidents:,} incidents of fraud{where} that champion {self.champion} allowed, "
        told += f"{self.surge.expected:.0f} expected by now"
        if not self.surge.found:
            return f"{self.day}: no surge. Since {self.since}: {told}."
        most = f", most of all {self.groups[0].segment} {self.groups[0].name}" if self.groups else ""
        return (
            f"{self.day}: a surge since {self.since}: {told}{most}. Look at the newest ones: a new kind of fraud "
            "is for people to stop, until its labels have matured and a training can learn it."
        )

    def to_markdown(self) -> str:
        """The finding, the groups with the least likely excess and the newest transactions."""
        if self.surge is None:
            return self.summary
        total = Group("", self.group or "all", self.surge.incidents, self.surge.expected)
        shown = [total, *self.groups[:SHOWN]]
        rows = (
            f"| {f'{one.segment}: ' * bool(one.segment)}{one.name.replace('|', '/')} "
            f"| {one.incidents:,} | {one.expected:.1f} |"
            for one in shown
        )
        newest = f"Newest: {', '.join(self.examples)}" if self.examples else "None was reported."
        table = "\n".join([f"| since {self.since} | reported | expected |", "|---|---:|---:|", *rows])
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
    decided = decide(model.predict(features), model.policy)
    position = positions_of(features, served["transaction_id"], table="features")
    decided[position[position >= 0]] = served["decision"].to_numpy(object)[position >= 0]
    rows = rows_of(transactions, features["transaction_id"], table="transactions")[decided == "allow"]
    groups: pd.DataFrame = rows[_ROW].assign(**reported_segments(rows))
    return groups


def active_customers(paid: Iterable[tuple[date, pd.Series]]) -> dict[date, int]:
    """How many customers paid on each day or in the four weeks before it; none on a day without any payment.

    paid: customer_id of the transactions of each day, in order of days.
    """
    last_paid, active = pd.Series(dtype=np.int64), {}
    for day, customers in paid:
        number = (day - _EPOCH).days
        today = pd.Series(number, index=customers.unique())
        last_paid = pd.concat([today, last_paid[last_paid > number - ACTIVE_DAYS]])
        last_paid = last_paid[~last_paid.index.duplicated()]
        active[day] = len(last_paid) if len(today) else 0
    return active


def missed_fraud_report(
    day: date,
    allowed: pd.DataFrame,
    reports: pd.DataFrame,
    customers: Mapping[date, int],
    *,
    champion: str,
    first: date,
    label_maturity: timedelta,
) -> MissedFraudReport:
    """What is known at the end of `day`; `allowed` is of `allowed_frauds`, `customers` of `active_customers`.

    Reports of later instants and rows of later days change nothing.
    """
    start, size = (first - _EPOCH).days, max(0, (day - first).days + 1)
    exposed = np.array([customers.get(first + timedelta(days=number), 0) for number in range(size)], dtype=np.int64)
    found = _incidents(allowed, reports, as_of=pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1))
    found = found[(found["event_day"] >= start) & (found["event_day"] < start + size)]
    event, reported = (found[name].to_numpy(np.int64) - start for name in ("event_day", "report_day"))
    looked_at = {"": np.ones(len(found), dtype=bool)} | {
        f"{LOOKED_AT} {name}": mine for segment, name, mine in _groups(found) if segment == LOOKED_AT
    }
    matured = size - label_maturity // timedelta(days=1)
    surges = {
        group: most_significant_excess(
            event[mine], reported[mine], exposed, matured=matured, comparisons=len(looked_at)
        )
        for group, mine in looked_at.items()
    }
    red = {group: surge for group, surge in surges.items() if surge and surge.found}
    # Where there is no surge at all, what is told is how all fraud does.
    group, surge = min(red.items(), key=lambda one: one[1].p, default=("", surges[""]))
    if surge is None:
        counts = np.bincount(event, minlength=size).astype(np.int64)
        return MissedFraudReport(day=day, champion=champion, first=first, incidents=counts, expected=np.zeros(size))
    mine, since = looked_at[group], surge.since
    found, event, reported = found[mine], event[mine], reported[mine]
    parts = [
        (segment, name, compared(event[part], reported[part], exposed, since=since))
        for segment, name, part in _groups(found)
        if not (group and segment == LOOKED_AT)
    ]
    parts.sort(key=lambda part: part[2].p)
    return MissedFraudReport(
        day=day,
        champion=champion,
        first=first,
        incidents=np.bincount(event, minlength=size).astype(np.int64),
        expected=expected_incidents(event, reported, exposed, since=since),
        surge=surge,
        group=group,
        groups=tuple(Group(segment, name, one.incidents, one.expected) for segment, name, one in parts),
        examples=tuple(found[event >= since].sort_values("event_time", ascending=False)["transaction_id"][:SHOWN]),
    )


def _groups(rows: pd.DataFrame) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Each group of each segment, and which rows are of it."""
    for segment in rows.columns.difference([*_ROW, *_DAYS], sort=False):
        for name in rows[segment].dropna().unique():
            yield segment, str(name), (rows[segment] == name).to_numpy()


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
