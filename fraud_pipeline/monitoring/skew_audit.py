"""Skew audit: recomputes served features from history and compares them bit by bit.

Belongs here: the comparison of stored with recomputed features. Must not be here: SQL, features, promotion.

Each decision is recomputed with its own feature configuration and own inputs, whatever model serves today. First all
rows are recomputed at once from everything known today. Rows that differ are recomputed from what was known at the
decision: an event that arrived late, or a report from the same second, explains a difference. Remaining differences are
skew.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FEATURE_NAMES, History
from fraud_pipeline.schema.erasure import PREFIX
from fraud_pipeline.schema.joins import rows_of
from fraud_pipeline.schema.own_fields import with_own_columns
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS, microseconds

COMPARED_MODES = ("full", "rules")
_NOT_KEPT = "a feature configuration that is not kept"


@dataclass(frozen=True, slots=True)
class VersionedHistory:
    """History, with the version at which each row became known.

    `transactions` carry `customer_version` and typed columns of own fields, `reports` and `merchant_days` (all versions
    of a day) `version`.
    """

    transactions: pd.DataFrame
    reports: pd.DataFrame
    merchant_days: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Audit:
    """Counts of decisions: compared, explained by later knowledge, and different without an explanation."""

    compared: int
    explained_by_later_knowledge: int
    different: int
    features: tuple[str, ...]
    transaction_ids: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every difference is explained."""
        return self.different == 0

    @property
    def finding(self) -> str:
        """One sentence for a person."""
        if self.passed:
            late = (
                f", {self.explained_by_later_knowledge} of them from what was known at the decision"
                if self.compared
                else ""
            )
            return f"{self.compared} served rows were recomputed and are the same bit for bit{late}."
        names = ", ".join(self.features[:5])
        return (
            f"{self.different} of {self.compared} served rows differ when recomputed ({names}): serving and training "
            "see different features. Run one release of the feature code everywhere and rebuild the online history."
        )


def with_tables(history: VersionedHistory, *, transactions: pd.DataFrame, reports: pd.DataFrame) -> VersionedHistory:
    """The same history, with rows of the offline tables in place of the same rows of the database.

    Own fields that the tables lack are those of the database.
    """
    by_id = history.transactions.set_index("transaction_id")
    lacking = [name for name in by_id.columns if name not in transactions and name != "customer_version"]
    online = by_id[lacking].reindex(transactions["transaction_id"]).set_axis(transactions.index)
    transactions = pd.concat([transactions, online], axis=1)
    return VersionedHistory(
        transactions=_overlaid(history.transactions, transactions, key=["transaction_id"], version="customer_version"),
        reports=_overlaid(history.reports, reports, key=["transaction_id", "reported_at"], version="version"),
        merchant_days=history.merchant_days,
    )


def _overlaid(history: pd.DataFrame, table: pd.DataFrame, *, key: list[str], version: str) -> pd.DataFrame:
    """Version 0 for a row that only the table has: it counts as always known, so its absence online shows as skew."""
    versions = history.set_index(key)[version]
    at = pd.MultiIndex.from_frame(table[key]) if len(key) > 1 else pd.Index(table[key[0]])
    versioned = table.assign(**{version: versions.reindex(at, fill_value=0).to_numpy()})
    return pd.concat([versioned, history], ignore_index=True).drop_duplicates(key, ignore_index=True)


def audit(decisions: pd.DataFrame, history: VersionedHistory, *, config: FeatureConfig) -> Audit:
    """Compare the stored rows of `decisions` (rows of the table, made with `config`) with recomputed ones.

    Decisions that were made without history, and erased ones, are left out. `history` must cover the longest window of
    every decision.
    """
    decisions = decisions[decisions["mode"].isin(COMPARED_MODES)]
    has_history = decisions["transaction_id"].isin(history.transactions["transaction_id"])
    has_history &= ~decisions["transaction_id"].str.startswith(PREFIX)
    decisions = decisions[has_history].reset_index(drop=True)
    stored = _stored_bits(decisions, config)
    new = rows_of(history.transactions, decisions["transaction_id"], table="transactions")
    computed = _computed_bits(new, history, events=history.transactions, config=config)
    suspects = np.flatnonzero((stored != computed).any(axis=1))
    unequal = np.zeros(len(config.feature_names), bool)
    different: list[str] = []
    for position in suspects:
        again = _as_known(decisions.iloc[position], new.iloc[[int(position)]], history, config=config)
        wrong = stored[position] != again
        if wrong.any():
            different.append(str(decisions["transaction_id"].iloc[position]))
            unequal |= wrong
    return Audit(
        compared=len(decisions),
        explained_by_later_knowledge=len(suspects) - len(different),
        different=len(different),
        features=tuple(name for name, wrong in zip(config.feature_names, unequal, strict=True) if wrong),
        transaction_ids=tuple(different),
    )


def audit_each(
    decisions: pd.DataFrame,
    history: Callable[[FeatureConfig], VersionedHistory],
    *,
    configs: Mapping[str, FeatureConfig],
    unnamed: FeatureConfig,
) -> Audit:
    """Audit decisions of several feature configurations, each with its own.

    `history` gives the history with merchants' days of a configuration. `unnamed` is the configuration of decisions of
    earlier releases, which name none. Decisions whose configuration is not among `configs` all count as different.
    """
    audits = []
    for id_, made_with_it in decisions.groupby(decisions["feature_config"].fillna(""), sort=False):
        config = configs.get(str(id_)) if id_ else unnamed
        if config is None:
            audits.append(_unknown_configuration(made_with_it))
        else:
            audits.append(audit(made_with_it, history(config), config=config))
    return Audit(
        compared=sum(each.compared for each in audits),
        explained_by_later_knowledge=sum(each.explained_by_later_knowledge for each in audits),
        different=sum(each.different for each in audits),
        features=tuple(dict.fromkeys(name for each in audits for name in each.features)),
        transaction_ids=tuple(id_ for each in audits for id_ in each.transaction_ids),
    )


def _unknown_configuration(decisions: pd.DataFrame) -> Audit:
    ids = decisions.loc[decisions["mode"].isin(COMPARED_MODES), "transaction_id"]
    return Audit(
        compared=len(ids),
        explained_by_later_knowledge=0,
        different=len(ids),
        features=(_NOT_KEPT,) if len(ids) else (),
        transaction_ids=tuple(ids),
    )


def _as_known(
    decision: pd.Series, new: pd.DataFrame, history: VersionedHistory, *, config: FeatureConfig
) -> NDArray[np.uint32]:
    """One row's features from what was known at its decision: earlier versions, and its own micro-batch."""
    of_customer = history.transactions[history.transactions["customer_id"] == new["customer_id"].iloc[0]]
    then = VersionedHistory(
        transactions=of_customer[of_customer["customer_version"] <= decision["customer_version"]],
        reports=history.reports[history.reports["version"] <= decision["reports_version"]],
        merchant_days=history.merchant_days[history.merchant_days["version"] <= decision["merchant_days_version"]],
    )
    bits: NDArray[np.uint32] = _computed_bits(new, then, events=then.transactions, config=config)[0]
    return bits


def _computed_bits(
    new: pd.DataFrame, history: VersionedHistory, *, events: pd.DataFrame, config: FeatureConfig
) -> NDArray[np.uint32]:
    days = history.merchant_days.drop_duplicates(["merchant_id", "day"], keep="last").drop(columns="version")
    inputs = History(
        transactions=events[list(TRANSACTION_COLUMNS)],
        reports=history.reports.drop(columns="version"),
        merchant_days=days,
    )
    features = config.engineer().compute(history=inputs, new=new)
    columns = with_own_columns(new, config.own_inputs.fields)
    own = config.own_inputs.values(
        {name: columns[name] for name in config.own_inputs.names}, microseconds(new["event_time"])
    )
    rows = config.whole_rows(features[list(FEATURE_NAMES)].to_numpy(np.float32), own)
    return np.ascontiguousarray(rows).view(np.uint32)


def _stored_bits(decisions: pd.DataFrame, config: FeatureConfig) -> NDArray[np.uint32]:
    rows = b"".join(decisions["features"])
    return np.frombuffer(rows, np.uint32).reshape(len(decisions), len(config.feature_names))
