"""Statements about analysts' rules: saving versions, changing states, snoozes, and what is in force.

Belongs here: reading and writing. Must not be here: the language and its checks (`policy/`), lists
(`value_lists.py`), words for people (`cli/rule_commands.py`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.rule_tables import (
    ANALYST_RULE_VERSIONS,
    ANALYST_RULES,
    RULE_EVENTS,
    RULE_SNOOZES,
    RULES_VERSIONS,
)
from fraud_pipeline.policy.analyst_rules import AnalystRule, State
from fraud_pipeline.schema.transactions import now_microseconds

_IN_FORCE: Final[tuple[State, ...]] = ("active", "shadow")
_VERSION: Final = sa.select(RULES_VERSIONS.c.version).where(RULES_VERSIONS.c.name == "rules")


class RuleChangeError(ValueError):
    """A change of a rule, list or snooze that cannot be made: what is wrong, and the remedy."""


@dataclass(frozen=True, slots=True)
class RuleVersion:
    """One version of a rule with its author; times in microseconds since 1970-01-01 UTC."""

    rule: AnalystRule
    author: str
    reason: str
    created_at: int


@dataclass(frozen=True, slots=True)
class RuleEvent:
    """One line of the audit trail of rules, lists and snoozes."""

    at: int
    who: str
    what: str
    name: str
    detail: str
    reason: str


_EVENT: Final = [RULE_EVENTS.c[name] for name in RuleEvent.__slots__]


def rules_version(database: Database) -> int:
    """The number of the last change of any rule, list or snooze."""
    ((version,),) = database.rows(_VERSION)
    return int(version)


def next_rules_version(connection: sa.Connection) -> int:
    """The number of a new change; its row stays locked, so changes become visible in order."""
    statement = sa.update(RULES_VERSIONS).values(version=RULES_VERSIONS.c.version + 1)
    return int(connection.execute(statement.returning(RULES_VERSIONS.c.version)).scalar_one())


def add_event(connection: sa.Connection, *, who: str, what: str, name: str, detail: str, reason: str) -> None:
    """Append a line to the audit trail."""
    values = {"at": now_microseconds(), "who": who, "what": what, "name": name, "detail": detail, "reason": reason}
    connection.execute(sa.insert(RULE_EVENTS), [values])


def save_rule(database: Database, rule: AnalystRule, *, who: str, reason: str) -> AnalystRule:
    """Store a checked rule as the next version of its name; it keeps the state that the rule had, or is a draft."""
    with database.transaction() as connection:
        next_rules_version(connection)
        before = connection.execute(sa.select(ANALYST_RULES).where(ANALYST_RULES.c.name == rule.name)).one_or_none()
        saved = AnalystRule(
            name=rule.name,
            version=before.version + 1 if before else 1,
            action=rule.action,
            expression=rule.expression,
            description=rule.description,
            state=before.state if before else "draft",
            percent=before.percent if before else rule.percent,
            own_types=rule.own_types,
        )
        connection.execute(
            sa.insert(ANALYST_RULE_VERSIONS),
            [
                {
                    "name": saved.name,
                    "version": saved.version,
                    "action": saved.action,
                    "expression": saved.expression,
                    "description": saved.description,
                    "own_types": json.dumps(dict(saved.own_types), sort_keys=True),
                    "author": who,
                    "reason": reason,
                    "created_at": now_microseconds(),
                }
            ],
        )
        current = {"name": saved.name, "version": saved.version, "state": saved.state, "percent": saved.percent}
        if before:
            connection.execute(sa.update(ANALYST_RULES).where(ANALYST_RULES.c.name == saved.name).values(**current))
        else:
            connection.execute(sa.insert(ANALYST_RULES), [current])
        add_event(
            connection,
            who=who,
            what="saved",
            name=saved.name,
            detail=f"version {saved.version}: {saved.action} when {saved.expression}",
            reason=reason,
        )
        return saved


def set_state(
    database: Database, name: str, state: State, *, who: str, reason: str, percent: float = 100.0, other: bool = False
) -> AnalystRule:
    """Change the state of a rule; `other` demands that the author of its version is someone else.

    Raises RuleChangeError for an unknown rule, and for a rule of the same person.
    """
    with database.transaction() as connection:
        next_rules_version(connection)
        version = _current(connection, name)
        if other and version.author == who:
            raise RuleChangeError(
                f"{name}: {who} wrote version {version.rule.version}; another person must activate it"
            )
        connection.execute(
            sa.update(ANALYST_RULES).where(ANALYST_RULES.c.name == name).values(state=state, percent=percent)
        )
        detail = f"version {version.rule.version}" + (f", {percent:g} % of customers" if percent < 100 else "")
        add_event(connection, who=who, what=state, name=name, detail=detail, reason=reason)
        return _current(connection, name).rule


def snooze(database: Database, name: str, customer_id: str, *, ends_at: int, who: str, reason: str) -> None:
    """Turn a rule off for a customer until an instant; a past one ends the snooze. Raises RuleChangeError."""
    with database.transaction() as connection:
        next_rules_version(connection)
        _current(connection, name)
        key = (RULE_SNOOZES.c.rule == name) & (RULE_SNOOZES.c.customer_id == customer_id)
        connection.execute(sa.delete(RULE_SNOOZES).where(key))
        values = {"rule": name, "customer_id": customer_id, "ends_at": ends_at, "who": who, "reason": reason}
        connection.execute(sa.insert(RULE_SNOOZES), [values])
        add_event(connection, who=who, what="snoozed", name=name, detail=customer_id, reason=reason)


def all_rules(database: Database) -> list[RuleVersion]:
    """The current version of every rule, by name."""
    return [_version(row) for row in database.rows(_rules())]


def rule_versions(database: Database, name: str) -> list[RuleVersion]:
    """Every version of a rule, newest first; state and percent are those of the rule now. Raises RuleChangeError."""
    of_name = _rules(every_version=True).where(ANALYST_RULES.c.name == name)
    versions = [_version(row) for row in database.rows(of_name.order_by(ANALYST_RULE_VERSIONS.c.version.desc()))]
    if not versions:
        raise _unknown(name)
    return versions


def rule_events(database: Database, *, name: str | None = None, limit: int = 50) -> list[RuleEvent]:
    """The newest lines of the audit trail, of one rule or list if named."""
    query = sa.select(*_EVENT).order_by(RULE_EVENTS.c.number.desc()).limit(limit)
    rows = database.rows(query if name is None else query.where(RULE_EVENTS.c.name == name))
    return [RuleEvent(*row) for row in rows]


def rules_in_force(connection: sa.Connection, *, now: int) -> tuple[list[AnalystRule], Mapping[tuple[str, str], int]]:
    """The active and shadow rules, and the end of each snooze (rule, customer) that has not ended."""
    rules = connection.execute(_rules().where(ANALYST_RULES.c.state.in_(_IN_FORCE)))
    snoozes = connection.execute(sa.select(RULE_SNOOZES).where(RULE_SNOOZES.c.ends_at > now))
    return [_version(row).rule for row in rules], {(row.rule, row.customer_id): row.ends_at for row in snoozes}


def _rules(*, every_version: bool = False) -> sa.Select[Any]:
    versions, rules = ANALYST_RULE_VERSIONS.c, ANALYST_RULES.c
    same_name = versions.name == rules.name
    together = same_name if every_version else sa.and_(same_name, versions.version == rules.version)
    query = sa.select(ANALYST_RULE_VERSIONS, rules.state, rules.percent).join(ANALYST_RULES, together)
    return query if every_version else query.order_by(versions.name)


def _current(connection: sa.Connection, name: str) -> RuleVersion:
    rows: Sequence[Any] = connection.execute(_rules().where(ANALYST_RULES.c.name == name)).all()
    if not rows:
        raise _unknown(name)
    return _version(rows[0])


def _unknown(name: str) -> RuleChangeError:
    return RuleChangeError(f"{name}: there is no such rule; `fraud-detect rules list` names them")


def _version(row: Any) -> RuleVersion:
    rule = AnalystRule(
        name=row.name,
        version=row.version,
        action=row.action,
        expression=row.expression,
        description=row.description,
        state=row.state,
        percent=row.percent,
        own_types=json.loads(row.own_types),
    )
    return RuleVersion(rule=rule, author=row.author, reason=row.reason, created_at=row.created_at)
