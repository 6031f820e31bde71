"""Rules of analysts: a named condition with an action, and the order in which rules overrule the model.

Belongs here: rules, the set in force, and its verdict on each transaction. Must not be here: the language
(`expressions.py`), its evaluation (`rule_program.py`), storage (`database/analyst_rules.py`), the rules that stand in
for a model that is away (`decisions.py`).

Allow comes before block, block before review, review before the model. A review rule never weakens a block of the
model: a person who wants that writes an allow rule. Every rule in force is evaluated, so that each match is recorded.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.policy.decisions import Decision
from fraud_pipeline.policy.expressions import ExpressionError, Names, Node, columns_of, parse_expression
from fraud_pipeline.policy.rule_program import Read, RuleProgram
from fraud_pipeline.policy.value_lists import ValueList
from fraud_pipeline.schema.own_fields import OwnType

Action = Literal["allow", "block", "review", "tag"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
"""In order of precedence; a tag decides nothing."""
State = Literal["draft", "shadow", "active", "retired"]
STATES: Final[tuple[State, ...]] = get_args(State)
Effect = Literal["active", "shadow", "snoozed"]
"""What a match did: it counted, it was only recorded, or it was off for this customer."""
RULE_REASON: Final = "analyst_rule"
_FULL: Final = 100.0
_DRAWS: Final = 2**64


@dataclass(frozen=True, slots=True)
class AnalystRule:
    """One version of a rule. `percent` of the customers get its action; for the others it is in shadow.

    `own_types` are the types of the own fields that its expression uses, as they were declared when it was saved.
    """

    name: str
    version: int
    action: Action
    expression: str
    description: str = ""
    state: State = "active"
    percent: float = _FULL
    own_types: Mapping[str, OwnType] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def label(self) -> str:
        """The name and version, as decisions cite them."""
        return f"{self.name}@{self.version}"

    @property
    def text(self) -> str:
        """What the rule looks for, in the words of its author."""
        return self.description or self.expression


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that was true of a transaction."""

    rule: AnalystRule
    effect: Effect


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say about one transaction: every match, and the rule that overrules the model, if one does."""

    matches: tuple[Match, ...]
    decider: AnalystRule | None
    decision: Decision


class RuleSet:
    """The rules in force with their lists and snoozes; `broken` names rules that cannot be evaluated, and why.

    `snoozes` maps the name of a rule and a customer to the end in microseconds.
    """

    def __init__(
        self,
        rules: Sequence[AnalystRule] = (),
        *,
        lists: Mapping[str, ValueList] = MappingProxyType({}),
        snoozes: Mapping[tuple[str, str], int] = MappingProxyType({}),
        broken: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.lists = lists
        self.snoozes = snoozes
        problems, usable, nodes = dict(broken), [], []
        for rule in sorted(rules, key=lambda rule: (ACTIONS.index(rule.action), rule.name)):
            try:
                nodes.append(checked(rule, lists=lists))
                usable.append(rule)
            except ExpressionError as error:
                problems[rule.name] = str(error)
        self.broken: Mapping[str, str] = problems
        self.rules = tuple(usable)
        self._program = RuleProgram(nodes)

    def changed(self, lists: Mapping[str, ValueList], snoozes: Mapping[tuple[str, str], int]) -> "RuleSet":
        """The same rules over other content of lists and other snoozes, without parsing them again."""
        rules = copy(self)
        rules.lists, rules.snoozes = lists, snoozes
        return rules

    def matches(self, read: Read, *, n_rows: int, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of `rules` is true of each row, shape (rules, rows); `at` are the rows' times (microseconds)."""
        return self._program.evaluate(read, n_rows=n_rows, at=at, lists=self.lists)

    def verdicts(
        self,
        read: Read,
        *,
        customers: Sequence[str],
        at: NDArray[np.int64],
        decisions: Sequence[Decision],
    ) -> dict[int, Verdict]:
        """The verdict by row, for rows that any rule matches; `decisions` are those of the model alone."""
        matches = self.matches(read, n_rows=len(customers), at=at)
        return {
            row: self._verdict(matches[:, row], customers[row], at=int(at[row]), decision=decisions[row])
            for row in np.flatnonzero(matches.any(axis=0)).tolist()
        }

    def _verdict(self, matches: NDArray[np.bool_], customer: str, *, at: int, decision: Decision) -> Verdict:
        # In order of precedence, because the rules are.
        matched = tuple(
            Match(self.rules[number], self._effect(self.rules[number], customer, at=at))
            for number in np.flatnonzero(matches)
        )
        for match in matched:
            action = match.rule.action
            if match.effect == "active" and action != "tag" and not (action == "review" and decision == "block"):
                return Verdict(matched, match.rule, action)
        return Verdict(matched, None, decision)

    def _effect(self, rule: AnalystRule, customer: str, *, at: int) -> Effect:
        if rule.state != "active" or (rule.percent < _FULL and not _drawn(rule.name, customer, percent=rule.percent)):
            return "shadow"
        return "snoozed" if self.snoozes.get((rule.name, customer), 0) > at else "active"


NO_RULES: Final = RuleSet()


def checked(rule: AnalystRule, *, lists: Collection[str]) -> Node:
    """The checked expression of a rule. Raises ExpressionError."""
    return parse_expression(rule.expression, Names(own_fields=rule.own_types, lists=lists))


def used_own_fields(node: Node) -> dict[str, OwnType]:
    """The own fields that an expression uses, with their types."""
    return {column.name: column.own_type for column in columns_of(node) if column.own_type is not None}


def _drawn(rule: str, customer: str, *, percent: float) -> bool:
    """Whether this customer is among the `percent`; the same customer always is, and other rules draw others."""
    digest = hashlib.blake2b(f"{rule}\0{customer}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < percent / _FULL * _DRAWS
