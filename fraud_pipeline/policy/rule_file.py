"""Rules as a TOML file, so that a team can keep and review them in Git.

Belongs here: the format, written and read strictly. Must not be here: the database, checks of expressions.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fraud_pipeline.policy.analyst_rules import ACTIONS, STATES, AnalystRule
from fraud_pipeline.schema.own_fields import OWN_TYPES

_KEYS: Final = frozenset({"action", "when", "description", "state", "percent", "own_fields"})


class RuleFileError(ValueError):
    """A file of rules that cannot be read: its path, the rule, the problem and the remedy."""


def rules_file(rules: Iterable[AnalystRule]) -> str:
    """The text of a file of rules, in the order of their names; equal rules give equal texts."""
    return "\n".join(_section(rule) for rule in sorted(rules, key=lambda rule: rule.name))


def read_rules_file(text: str, *, path: str) -> list[AnalystRule]:
    """The rules of a file, with version 0. Raises RuleFileError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleFileError(f"{path}: no TOML ({error}); export the rules again to see the format") from None
    sections = document.pop("rule", {})
    if document or not isinstance(sections, dict):
        raise RuleFileError(f"{path}: holds something else than [rule.NAME] sections; remove it")
    return [_rule(name, values, path=path) for name, values in sections.items()]


def _section(rule: AnalystRule) -> str:
    lines = [f"[rule.{rule.name}]", f"action = {_text(rule.action)}", f"when = {_text(rule.expression)}"]
    if rule.description:
        lines.append(f"description = {_text(rule.description)}")
    lines.append(f"state = {_text(rule.state)}")
    if rule.percent != 100:
        lines.append(f"percent = {float(rule.percent)!r}")
    if rule.own_types:
        own = ", ".join(f"{name} = {_text(own_type)}" for name, own_type in sorted(rule.own_types.items()))
        lines.append(f"own_fields = {{ {own} }}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    # A JSON string is a basic string of TOML, but for the characters above 16 bits, which stay as they are.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _rule(name: str, values: Any, *, path: str) -> AnalystRule:
    where = f"{path}: rule {name}"
    if not isinstance(values, Mapping):
        raise RuleFileError(f"{where}: is no section; write [rule.{name}]")
    if unknown := sorted(values.keys() - _KEYS):
        raise RuleFileError(f"{where}: {', '.join(unknown)} means nothing; remove it")
    own_fields, percent = values.get("own_fields", {}), values.get("percent", 100.0)
    action, state, expression = values.get("action"), values.get("state", "draft"), values.get("when")
    if action not in ACTIONS:
        raise RuleFileError(f"{where}: action must be one of {', '.join(ACTIONS)}")
    if state not in STATES:
        raise RuleFileError(f"{where}: state must be one of {', '.join(STATES)}")
    if not isinstance(expression, str) or not isinstance(values.get("description", ""), str):
        raise RuleFileError(f"{where}: when and description must be texts")
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 < percent <= 100:
        raise RuleFileError(f"{where}: percent must be a number above 0, up to 100")
    if not isinstance(own_fields, Mapping) or not set(own_fields.values()) <= set(OWN_TYPES):
        raise RuleFileError(f"{where}: own_fields must map names to types of own fields")
    return AnalystRule(
        name=name,
        version=0,
        action=action,
        expression=expression,
        description=values.get("description", ""),
        state=state,
        percent=float(percent),
        own_types=dict(own_fields),
    )
