"""The rules in force with their lists, read at once and then by what changed.

Belongs here: the transaction that reads them. Must not be here: statements (`analyst_rules.py`, `value_lists.py`),
when they are read (`serving/runtime/rule_watch.py`).
"""

from dataclasses import dataclass
from typing import Final

from fraud_pipeline.database.analyst_rules import rules_in_force, rules_version
from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.value_lists import changed_lists
from fraud_pipeline.policy.analyst_rules import NO_RULES, AnalystRule, RuleSet
from fraud_pipeline.schema.transactions import now_microseconds


@dataclass(frozen=True, slots=True, eq=False)
class RulesInForce:
    """The rules of a version, and the rows that they were made of."""

    version: int
    rows: tuple[AnalystRule, ...]
    rules: RuleSet


NOT_READ: Final = RulesInForce(version=-1, rows=(), rules=NO_RULES)


def read_rules(database: Database, before: RulesInForce = NOT_READ) -> RulesInForce:
    """The rules in force now; `before` itself where nothing has changed since. Raises DatabaseUnavailableError.

    Only changed values of lists are read. Rules that did not change are not parsed again.
    """
    version = rules_version(database)
    if version == before.version:
        return before
    with database.transaction(read_only=True) as connection:
        rows, snoozes = rules_in_force(connection, now=now_microseconds())
        lists = changed_lists(connection, dict(before.rules.lists), above=before.version, up_to=version)
    same = before is not NOT_READ and before.rows == tuple(rows) and lists.keys() == before.rules.lists.keys()
    rules = before.rules.changed(lists, snoozes) if same else RuleSet(rows, lists=lists, snoozes=snoozes)
    return RulesInForce(version=version, rows=tuple(rows), rules=rules)
