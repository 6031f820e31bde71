"""Missed fraud: looks for a surge of reported frauds that the champion had allowed.

Belongs here: which reports count, which groups are tested, and the report's text. Must not be here: the statistical
test (`surge_test.py`), tables, the registry, SQL, orchestration.

A new kind of fraud shifts no feature, and its labels mature weeks later, but some victims call within hours. So the
test compares reported frauds of the last days with frauds of earlier days that were reported as fast; the champion saw
none of these days. Blocked transactions are not counted. Rows of one theft are one incident. Each channel is also
tested alone, because a new kind of fraud mostly uses one. The exposure is active customers, not busy pay days.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.features.own_inputs import with_own_inputs
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.monitoring.performance import reported_segments, seen_to
from fraud_pipeline.monitoring.surge_test import (
    MIN_DAYS,
    Surge,
    compare_since,
    expected_incidents,
    most_significant_excess,
)
from fraud_pipeline.policy.decisions import decide
from fraud_pipeline.schema.joins import positions_of, rows_of
from fraud_pipeline.schema.transactions import DAY, TIME_DTYPE, microseconds

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TESTED_SEGMENT: Final = "channel"
"""The segment whose groups are also tested alone; not categories, because thieves move from shop to shop."""
ACTIVE_DAYS: Final = 28
"""Days for which a payment makes a customer active."""
SAME_INCIDENT: Final = timedelta(days=3)
SHOWN: Final = 12
_EPOCH: Final = date(1970, 1, 1)
_ROW_COLUMNS: Final = ["transaction_id", "event_time", "customer_id"]
_DAY_COLUMNS: Final = ["reported_at", "event_day", "report_day"]


@dataclass(frozen=True, slots=True)
class Group:
    """The incidents of a surge in one group of transactions: reported by now, and expected."""

    segment: str
    name: str
    incidents: int
    expected: float


@dataclass(frozen=True, slots=True)
class MissedFraudReport:
    """Reported fraud that the champion allowed, as known at the end of `day`.

    `group` is the channel of the surge, such as "channel online"; empty means all. The newest transactions, `examples`,
    and `incidents` and `expected` by day from `first` on, shape (days,), are those of the group.
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
        return self.surge is not None and self.surge.significant

    @property
    def since(self) -> date | None:
        """The day on which the surge began."""
        return self.first + timedelta(days=self.surge.since) if self.surge else None

    @property
    def not_judged(self) -> str:
        """Why nothing was compared; empty when it was."""
        if self.surge is not None:
            return ""
        return f"not judged yet: {MIN_DAYS} days with matured labels after those it was trained on are needed"

    @property
    def summary(self) -> str:
        """One line that a person can act on."""
        if self.surge is None:
            return f"Missed fraud of champion {self.champion} is {self.not_judged}."
        where = f" in {self.group}" if self.group else ""
        counts = f"{self.surge.incidents:,} incidents of fraud{where} that champion {self.champion} allowed, "
        counts += f"{self.surge.expected:.0f} expected by now"
        if not self.surge.significant:
            return f"{self.day}: no surge. Since {self.since}: {counts}."
        most = f", most of all {self.groups[0].segment} {self.groups[0].name}" if self.groups else ""
        return (
            f"{self.day}: a surge since {self.since}: {counts}{most}. Look at the newest transactions: people have to "
            "stop a new kind of fraud until its labels have matured and a training can learn it."
        )

    def to_markdown(self) -> str:
        """The finding, the groups with the most significant excess, and the newest transactions."""
        if self.surge is None:
            return self.summary
        total = Group("", self.group or "all", self.surge.incidents, self.surge.expected)
        shown = [total, *self.groups[:SHOWN]]
        rows = (
            f"| {f'{group.segment}: ' * bool(group.segment)}{group.name.replace('|', '/')} "
            f"| {group.incidents:,} | {group.expected:.1f} |"
            for group in shown
        )
        newest = f"Newest: {', '.join(self.examples)}" if self.examples else "None was reported."
        table = "\n".join([f"| since {self.since} | reported | expected |", "|---|---:|---:|", *rows])
        return f"{self.summary} p = {self.surge.p:.2g}.\n\n{table}\n\n{newest}"


def unseen_from(model: FraudModel) -> date:
    """The first whole day that trees, calibration and thresholds did not see: the start of the model's test part."""
    first = model.lineage.get("evaluated_from")
    # A model of an earlier release does not say where its test part began.
    return (pd.Timestamp(first).ceil("D") if first else seen_to(model).floor("D") + pd.Timedelta(days=1)).date()


def allowed_frauds(
    model: FraudModel, features: pd.DataFrame, transactions: pd.DataFrame, served: pd.DataFrame
) -> pd.DataFrame:
    """The reported transactions that the model allowed: transaction_id, event_time, customer_id, and the group of each
    segment.

    `features` are rows with a report; `transactions` hold the same rows; `served` are decisions of this model:
    transaction_id, decision. A row that the model did not serve counts with its decision on the row's features.
    """
    if features.empty:
        return pd.DataFrame({name: [] for name in _ROW_COLUMNS}).astype({"event_time": TIME_DTYPE})
    rows = with_own_inputs(features, transactions, model.feature_config.own_inputs)
    decided = decide(model.predict(rows), model.policy, amounts_cents=rows["amount"].to_numpy(np.float32))
    position = positions_of(features, served["transaction_id"], table="features")
    decided[position[position >= 0]] = served["decision"].to_numpy(object)[position >= 0]
    rows = rows_of(transactions, features["transaction_id"], table="transactions")[decided == "allow"]
    groups: pd.DataFrame = rows[_ROW_COLUMNS].assign(**reported_segments(rows))
    return groups


def active_customers(paid: Iterable[tuple[date, pd.Series]]) -> dict[date, int]:
    """The number of customers who paid on each day or in the four weeks before it; 0 on a day without any payment.

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
    """The report at the end of `day`; `allowed` comes from `allowed_frauds`, `customers` from `active_customers`.

    Later reports and rows of later days change nothing.
    """
    start, size = (first - _EPOCH).days, max(0, (day - first).days + 1)
    exposed = np.array([customers.get(first + timedelta(days=number), 0) for number in range(size)], dtype=np.int64)
    incidents = _incidents(allowed, reports, as_of=pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1))
    incidents = incidents[(incidents["event_day"] >= start) & (incidents["event_day"] < start + size)]
    event, reported = (incidents[name].to_numpy(np.int64) - start for name in ("event_day", "report_day"))
    tested = {"": np.ones(len(incidents), dtype=bool)} | {
        f"{TESTED_SEGMENT} {name}": members
        for segment, name, members in _groups(incidents)
        if segment == TESTED_SEGMENT
    }
    matured = size - label_maturity // timedelta(days=1)
    surges = {
        group: most_significant_excess(
            event[members], reported[members], exposed, matured=matured, comparisons=len(tested)
        )
        for group, members in tested.items()
    }
    red = {group: surge for group, surge in surges.items() if surge and surge.significant}
    # Without a surge, the report shows all fraud.
    group, surge = min(red.items(), key=lambda item: item[1].p, default=("", surges[""]))
    if surge is None:
        counts = np.bincount(event, minlength=size).astype(np.int64)
        return MissedFraudReport(day=day, champion=champion, first=first, incidents=counts, expected=np.zeros(size))
    members, since = tested[group], surge.since
    incidents, event, reported = incidents[members], event[members], reported[members]
    parts = [
        (segment, name, compare_since(event[part], reported[part], exposed, since=since))
        for segment, name, part in _groups(incidents)
        if not (group and segment == TESTED_SEGMENT)
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
        groups=tuple(Group(segment, name, excess.incidents, excess.expected) for segment, name, excess in parts),
        examples=tuple(incidents[event >= since].sort_values("event_time", ascending=False)["transaction_id"][:SHOWN]),
    )


def _groups(rows: pd.DataFrame) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Each group of each segment, with a mask of its rows."""
    for segment in rows.columns.difference([*_ROW_COLUMNS, *_DAY_COLUMNS], sort=False):
        for name in rows[segment].dropna().unique():
            yield segment, str(name), (rows[segment] == name).to_numpy()


def _incidents(allowed: pd.DataFrame, reports: pd.DataFrame, *, as_of: pd.Timestamp) -> pd.DataFrame:
    """The first row of each incident, with its day and the day of the first report about any row of the incident."""
    known = reports[reports["reported_at"] < as_of].sort_values(["reported_at", "is_fraud"])
    latest = known.drop_duplicates("transaction_id", keep="last").set_index("transaction_id")["is_fraud"]
    first_report = known[known["is_fraud"]].drop_duplicates("transaction_id").set_index("transaction_id")["reported_at"]
    still = allowed["transaction_id"].isin(latest.index[latest]) & (allowed["event_time"] < as_of)
    rows = allowed[still].sort_values(["customer_id", "event_time"])
    rows = rows.assign(reported_at=first_report.reindex(rows["transaction_id"]).to_numpy())
    gap = rows.groupby("customer_id")["event_time"].diff()
    incident = (gap.isna() | (gap > SAME_INCIDENT)).cumsum()
    rows["reported_at"] = rows.groupby(incident)["reported_at"].transform("min")
    first = rows[~incident.duplicated()]
    event_day, report_day = (microseconds(first[name]) // DAY for name in ("event_time", "reported_at"))
    return first.assign(event_day=event_day, report_day=np.maximum(report_day, event_day))
