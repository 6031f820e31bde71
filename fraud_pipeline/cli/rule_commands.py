"""The command `fraud-detect rules`.

Belongs here: one function for each action, words for a person. Must not be here: the language and the order of rules
(`policy/`), statements (`database/analyst_rules.py`), the file format (`policy/rule_file.py`).
"""

import argparse
import getpass
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic_core import to_json

from fraud_pipeline.database import Database, open_database
from fraud_pipeline.database.analyst_rules import (
    RuleChangeError,
    RuleEvent,
    all_rules,
    rule_events,
    rule_versions,
    save_rule,
    set_state,
    snooze,
)
from fraud_pipeline.database.rules_in_force import read_rules
from fraud_pipeline.database.value_lists import list_names
from fraud_pipeline.features.record import recorded_config
from fraud_pipeline.modeling.model_directory import MANIFEST_FILE
from fraud_pipeline.policy.analyst_rules import AnalystRule, used_own_fields
from fraud_pipeline.policy.backtest import Backtest
from fraud_pipeline.policy.expressions import ExpressionError, Names, parse_expression
from fraud_pipeline.policy.rule_file import read_rules_file, rules_file
from fraud_pipeline.schema.own_fields import OwnType
from fraud_pipeline.schema.transactions import MICROSECOND, now_microseconds
from fraud_pipeline.scoring.rule_backtest import backtest_rule
from fraud_pipeline.settings import Settings, load_settings

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BACKTEST_STATEMENT: Final = timedelta(minutes=1)
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
Result = tuple[Any, list[str]]
"""What `--json` prints, and the lines for a person."""


def rules(arguments: argparse.Namespace) -> int:
    """Run one action on rules."""
    settings = load_settings()
    with open_database(settings.database) as database:
        result, lines = _ACTIONS[arguments.action](database, settings, arguments)
    print(to_json(result).decode() if arguments.json else "\n".join(lines))
    return 0


def checked_name(name: str) -> str:
    """The name of a rule or list. Raises RuleChangeError for one that cannot be."""
    if not _NAME.fullmatch(name):
        raise RuleChangeError(
            f"{name}: a name begins with a small letter, and has small letters, digits, _ and -; choose another name"
        )
    return name


def person(arguments: argparse.Namespace) -> str:
    """The name of the analyst: as given, or the login name."""
    return str(arguments.who or getpass.getuser())


def event_line(event: RuleEvent) -> str:
    """One line of the audit trail."""
    at = _EPOCH + timedelta(microseconds=event.at)
    reason = f" ({event.reason})" if event.reason else ""
    return f"{at:%Y-%m-%d %H:%M:%S}  {event.who}: {event.name} {event.what}: {event.detail}{reason}"


def declared_own_fields(settings: Settings) -> dict[str, OwnType]:
    """The own fields that the exported champion declares, by name; none without a champion."""
    path = settings.champion_directory / MANIFEST_FILE
    if not path.is_file():
        return {}
    config = recorded_config(json.loads(path.read_text(encoding="utf-8")))
    return {own.name: own.type for own in config.own_inputs.fields}


def _list(database: Database, _settings: Settings, arguments: argparse.Namespace) -> Result:
    rows = [row.rule for row in all_rules(database) if arguments.state in (None, row.rule.state)]
    return [_plain(rule) for rule in rows], [_line(rule) for rule in rows] or ["There are no rules."]


def _show(database: Database, _settings: Settings, arguments: argparse.Namespace) -> Result:
    versions, events = rule_versions(database, arguments.name), rule_events(database, name=arguments.name)
    newest = versions[0].rule
    plain = [{**_plain(row.rule), "author": row.author, "reason": row.reason} for row in versions]
    lines = [_line(newest), f"  {newest.text}"]
    lines += [f"  version {row.rule.version} by {row.author}: {row.rule.expression}" for row in versions]
    return {"versions": plain, "events": events}, [*lines, *(f"  {event_line(event)}" for event in events)]


def _history(database: Database, _settings: Settings, arguments: argparse.Namespace) -> Result:
    events = rule_events(database, name=arguments.name, limit=arguments.limit)
    return events, [event_line(event) for event in events] or ["Nothing has changed yet."]


def _check(database: Database, settings: Settings, arguments: argparse.Namespace) -> Result:
    node = parse_expression(arguments.when, _names(database, settings))
    return {"ok": True, "own_fields": used_own_fields(node)}, ["The condition is valid."]


def _add(database: Database, settings: Settings, arguments: argparse.Namespace) -> Result:
    node = parse_expression(arguments.when, _names(database, settings))
    rule = AnalystRule(
        name=checked_name(arguments.name),
        version=0,
        action=arguments.effect,
        expression=arguments.when,
        description=arguments.description,
        own_types=used_own_fields(node),
    )
    saved = save_rule(database, rule, who=person(arguments), reason=arguments.reason)
    return _plain(saved), [f"Saved {saved.label} ({saved.state}): {saved.action} when {saved.expression}"]


def _change_state(database: Database, settings: Settings, arguments: argparse.Namespace) -> Result:
    state = {"shadow": "shadow", "activate": "active", "retire": "retired"}[arguments.action]
    percent = getattr(arguments, "percent", 100.0)
    if not 0 < percent <= 100:
        raise RuleChangeError(f"--percent {percent:g}: give a number above 0, up to 100")
    if state != "retired":
        _check_rule(database, settings, rule_versions(database, arguments.name)[0].rule)
    changed = set_state(
        database,
        arguments.name,
        state,  # type: ignore[arg-type]  # one of three states
        who=person(arguments),
        reason=arguments.reason,
        percent=percent,
        other=state == "active" and settings.rule_approval,
    )
    return _plain(changed), [f"{changed.label} is {changed.state}; every service takes it over within seconds."]


def _backtest(_database: Database, settings: Settings, arguments: argparse.Namespace) -> Result:
    # A day of a large bank takes longer to read than a scorer may wait.
    with open_database(settings.database, statement_timeout=_BACKTEST_STATEMENT) as database:
        if arguments.when is None:
            rule = rule_versions(database, arguments.name)[0].rule
        else:
            own = used_own_fields(parse_expression(arguments.when, _names(database, settings)))
            rule = AnalystRule("condition", 0, "review", arguments.when, own_types=own)
        result = backtest_rule(
            database,
            rule,
            lists=read_rules(database).rules.lists,
            days=arguments.days,
            label_maturity=settings.label_maturity,
        )
    return asdict(result), backtest_lines(result, currency=settings.currency)


def backtest_lines(result: Backtest, *, currency: str) -> list[str]:
    """The figures of a backtest for a person."""
    if not result.rows:
        return [f"No transaction of the last {result.days} days was decided: nothing to test on."]
    total, per_day = f"{result.rows:,} transactions in {result.days} days", f"{result.matches_per_day:.1f} a day"
    lines = [f"{result.matches:,} of {total} match ({per_day})."]
    if result.precision is None:
        lines.append("No match has a known label, so precision is unknown.")
    else:
        interval = f"{result.precision_low:.2f} to {result.precision_high:.2f}"
        lines.append(
            f"precision {result.precision:.2f} ({interval}): {result.matched_frauds:,} frauds, "
            f"{result.matched_legitimate:,} legitimate; labels of the others are not known"
        )
    if result.recall is not None:
        lines.append(f"recall {result.recall:.2f} of the reported frauds")
    lines.append(
        f"allowed without rules: {result.new_frauds:,} matched frauds of {result.saved_cents / 100:,.2f} {currency}, "
        f"and {result.disturbed:,} legitimate matches"
    )
    return [*lines, *(f"  {sample}" for sample in result.samples)]


def _snooze(database: Database, _settings: Settings, arguments: argparse.Namespace) -> Result:
    ends_at = now_microseconds() + arguments.lasts // timedelta(microseconds=MICROSECOND)
    who, reason = person(arguments), arguments.reason
    snooze(database, arguments.name, arguments.customer_id, ends_at=ends_at, who=who, reason=reason)
    until = _EPOCH + timedelta(microseconds=ends_at)
    result = {"rule": arguments.name, "customer_id": arguments.customer_id, "ends_at": until}
    return result, [f"{arguments.name} is off for {arguments.customer_id} until {until:%Y-%m-%d %H:%M} UTC."]


def _export(database: Database, _settings: Settings, arguments: argparse.Namespace) -> Result:
    rows = [row.rule for row in all_rules(database)]
    arguments.file.write_text(rules_file(rows), encoding="utf-8")
    return {"file": str(arguments.file), "rules": len(rows)}, [f"{arguments.file}: {len(rows)} rules written."]


def _import(database: Database, settings: Settings, arguments: argparse.Namespace) -> Result:
    known = {row.rule.name: row.rule for row in all_rules(database)}
    wanted = read_rules_file(arguments.file.read_text(encoding="utf-8"), path=str(arguments.file))
    for rule in wanted:
        checked_name(rule.name)
        _check_rule(database, settings, rule)
    changes = []
    for rule in wanted:
        current = known.get(rule.name)
        who = person(arguments)
        if current is None or replace(rule, version=0, state="draft", percent=100.0) != replace(
            current, version=0, state="draft", percent=100.0
        ):
            current = save_rule(database, rule, who=who, reason=arguments.reason)
            changes.append(f"{current.label} saved")
        if (rule.state, rule.percent) != (current.state, current.percent):
            other = rule.state == "active" and settings.rule_approval
            set_state(
                database, rule.name, rule.state, who=who, reason=arguments.reason, percent=rule.percent, other=other
            )
            changes.append(f"{rule.name} is {rule.state}")
    left = sorted(known.keys() - {rule.name for rule in wanted})
    lines = changes or ["No rule differs from the file."]
    if left:
        lines = [*lines, f"Not in the file, left alone: {', '.join(left)}"]
    return {"changes": changes, "not_in_file": left}, lines


def _names(database: Database, settings: Settings) -> Names:
    return Names(own_fields=declared_own_fields(settings), lists=list_names(database))


def _check_rule(database: Database, settings: Settings, rule: AnalystRule) -> None:
    """Raise ExpressionError for a rule that cannot be evaluated now, with its name."""
    own_types = {**declared_own_fields(settings), **rule.own_types}
    try:
        parse_expression(rule.expression, Names(own_fields=own_types, lists=list_names(database)))
    except ExpressionError as error:
        raise ExpressionError(f"rule {rule.name}: {error}") from None


def _plain(rule: AnalystRule) -> Mapping[str, object]:
    return {
        "name": rule.name,
        "version": rule.version,
        "state": rule.state,
        "percent": rule.percent,
        "action": rule.action,
        "when": rule.expression,
        "description": rule.description,
    }


def _line(rule: AnalystRule) -> str:
    state = rule.state if rule.percent == 100 else f"{rule.state} {rule.percent:g} %"
    return f"{rule.label:<28}{state:<12}{rule.action:<8}{rule.expression}"


_ACTIONS: Final[Mapping[str, Callable[[Database, Settings, argparse.Namespace], Result]]] = {
    "list": _list,
    "show": _show,
    "history": _history,
    "check": _check,
    "add": _add,
    "shadow": _change_state,
    "activate": _change_state,
    "retire": _change_state,
    "snooze": _snooze,
    "backtest": _backtest,
    "export": _export,
    "import": _import,
}
