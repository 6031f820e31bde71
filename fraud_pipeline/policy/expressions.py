"""Rule expressions: SQL WHERE conditions over fields, features, lists and the model's probability.

Belongs here: parsing, names, types, and the checked tree. Must not be here: evaluation (`rule_program.py`), rules and
their order (`analyst_rules.py`).

sqlglot parses the text. Only the nodes that `_translate` knows become part of the tree, so an expression can read the
columns of one transaction and nothing else. Amounts are in currency units, times in UTC.
"""

import difflib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from fraud_pipeline.features.definitions import FEATURES
from fraud_pipeline.schema.fields import Kind as FieldKind
from fraud_pipeline.schema.fields import transaction_fields
from fraud_pipeline.schema.own_fields import OwnType

Kind = Literal["number", "text", "boolean", "time"]
MAX_LENGTH: Final = 4_000
_KIND_OF_FIELD: Final[Mapping[FieldKind, Kind]] = {"amount": "number", "coordinate": "number", "time": "time"}
_KIND_OF_OWN: Final[Mapping[OwnType, Kind]] = {
    "number": "number",
    "money": "number",
    "boolean": "boolean",
    "time": "time",
}
FIXED_COLUMNS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        **{field.name: _KIND_OF_FIELD.get(field.kind, "text") for field in transaction_fields()},
        "hour": "number",
        "weekday": "number",
        "probability": "number",
    }
)
"""Fields of a transaction; `hour` (0 to 23) and `weekday` (1 is Monday) of its time in UTC; the model's probability."""
FEATURE_COLUMNS: Final = frozenset(feature.name for feature in FEATURES) - FIXED_COLUMNS.keys()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ExpressionError(ValueError):
    """An expression that cannot be a rule: what is wrong, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Column:
    """A value of the transaction; `own_type` is the type of an own field, and None for all other columns."""

    name: str
    kind: Kind
    own_type: OwnType | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """A value of the expression; times are microseconds since 1970-01-01 UTC."""

    value: float | str | bool | None
    kind: Kind


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or function; `texts` are the values of IN, a pattern, or the name of a list."""

    operator: str
    arguments: tuple["Node", ...]
    kind: Kind
    texts: tuple[str, ...] = ()


Node = Column | Constant | Call


@dataclass(frozen=True, slots=True)
class Names:
    """The own fields by name, and the lists, that an expression may use beside the fixed columns and features."""

    own_fields: Mapping[str, OwnType] = field(default_factory=dict)
    lists: Collection[str] = ()

    def column(self, name: str) -> Column:
        """The column of a name. Raises ExpressionError for an unknown one, with the nearest known one."""
        if name in FIXED_COLUMNS:
            return Column(name, FIXED_COLUMNS[name])
        if name in FEATURE_COLUMNS:
            return Column(name, "number")
        if name in self.own_fields:
            own_type = self.own_fields[name]
            return Column(name, _KIND_OF_OWN.get(own_type, "text"), own_type)
        known = [*FIXED_COLUMNS, *FEATURE_COLUMNS, *self.own_fields]
        raise ExpressionError(f"{name}: no field or feature has this name; {_nearest(name, known)}")


def parse_expression(text: str, names: Names) -> Node:
    """The checked tree of a condition. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression has more than {MAX_LENGTH:,} characters: split the rule, or use a list")
    try:
        tree = parse_one(text, dialect="postgres")
        node = _translate(tree, names)
    except SqlglotError as error:
        details = getattr(error, "errors", None) or [{}]
        place = f" at character {details[0]['col']}" if details[0].get("col") else ""
        raise ExpressionError(
            f"the expression cannot be read{place}: write a condition such as amount > 500 AND country = 'NG'"
        ) from None
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply: split the rule") from None
    _require(node, "boolean", "a rule")
    if not columns_of(node):
        raise ExpressionError("the expression reads no field, so it holds for all transactions or none: name a field")
    return node


def lists_of(node: Node) -> frozenset[str]:
    """The lists that an expression uses."""
    if not isinstance(node, Call):
        return frozenset()
    own = frozenset(node.texts) if node.operator == "in_list" else frozenset[str]()
    return own.union(*(lists_of(argument) for argument in node.arguments))


def columns_of(node: Node) -> frozenset[Column]:
    """The columns that an expression reads."""
    if isinstance(node, Call):
        return frozenset[Column]().union(*(columns_of(argument) for argument in node.arguments))
    return frozenset([node]) if isinstance(node, Column) else frozenset()


def _translate(tree: Any, names: Names) -> Node:
    translate = _TRANSLATORS.get(type(tree))
    if translate is None:
        raise ExpressionError(f"{_sql(tree)}: rules have no such operation; docs/how-to/write-a-rule.md lists them")
    # An option that is not known here would change the meaning in silence.
    options = {name for name, value in tree.args.items() if value} - _ARGUMENTS.get(type(tree), _BINARY)
    if options - {"negate"}:
        raise ExpressionError(f"{_sql(tree)}: rules have no such option ({', '.join(sorted(options))}); remove it")
    node = translate(tree, names)
    return Call("not", (node,), "boolean") if options else node


def _column(tree: exp.Column, names: Names) -> Node:
    if tree.table or not isinstance(tree.this, exp.Identifier):
        raise ExpressionError(f"{_sql(tree)}: rules see one transaction and no tables; write the name of its field")
    name = tree.this.name
    return names.column(name if tree.this.quoted else name.lower())


def _literal(tree: exp.Literal, _names: Names) -> Node:
    return Constant(tree.this, "text") if tree.is_string else Constant(_number(tree.this), "number")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ExpressionError(f"{text}: the number is too large")
    return number


def _negative(tree: exp.Neg, names: Names) -> Node:
    node = _require(_translate(tree.this, names), "number", "-")
    return Constant(-float(node.value or 0), "number") if isinstance(node, Constant) else Call("neg", (node,), "number")


def _comparison(operator: str) -> Callable[[Any, Names], Node]:
    def translate(tree: exp.Binary, names: Names) -> Node:
        return _compared(operator, _translate(tree.left, names), _translate(tree.right, names), _sql(tree))

    return translate


def _compared(operator: str, left: Node, right: Node, text: str) -> Node:
    if isinstance(left, Constant):
        left, right, operator = right, left, _MIRRORED.get(operator, operator)
    if isinstance(left, Constant):
        raise ExpressionError(f"{text}: both sides are constants; compare a field with a constant")
    if isinstance(right, Constant) and right.value is None:
        raise ExpressionError(f"{text}: a comparison with NULL is never true; write IS NULL or IS NOT NULL")
    if left.kind == "time" and isinstance(right, Constant) and right.kind == "text":
        right = _time(str(right.value))
    if left.kind != right.kind:
        raise ExpressionError(f"{text}: compares a {left.kind} with a {right.kind}; both sides need one type")
    if left.kind in ("text", "boolean") and operator not in ("=", "<>"):
        raise ExpressionError(f"{text}: values of type {left.kind} have no order; use = or <>")
    return Call(operator, (left, right), "boolean")


def _time(text: str) -> Constant:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ExpressionError(f"'{text}' is no time; write '2026-01-31' or '2026-01-31T13:45:00Z'") from None
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return Constant((aware - _EPOCH) // timedelta(microseconds=1), "time")


def _cast(tree: exp.Cast, _names: Names) -> Node:
    if isinstance(tree.this, exp.Literal) and tree.to.this in _TIMES:
        return _time(str(tree.this.this))
    raise ExpressionError(f"{_sql(tree)}: rules convert no types; compare fields as they are")


def _connective(operator: str) -> Callable[[Any, Names], Node]:
    def translate(tree: exp.Connector, names: Names) -> Node:
        # A loop over the left side, because hundreds of ORs are a chain as deep as they are many.
        parts: list[Any] = []
        rest: Any = tree
        while type(rest) is type(tree):
            parts.append(rest.right)
            rest = rest.left
        nodes = [_translate(part, names) for part in (rest, *reversed(parts))]
        return Call(operator, tuple(_require(node, "boolean", operator.upper()) for node in nodes), "boolean")

    return translate


def _not(tree: exp.Not, names: Names) -> Node:
    return Call("not", (_require(_translate(tree.this, names), "boolean", "NOT"),), "boolean")


def _between(tree: exp.Between, names: Names) -> Node:
    this = _translate(tree.this, names)
    low, high = (_translate(tree.args[name], names) for name in ("low", "high"))
    if tree.args.get("symmetric"):
        raise ExpressionError(f"{_sql(tree)}: write BETWEEN with the lower limit first")
    return Call("and", (_compared(">=", this, low, _sql(tree)), _compared("<=", this, high, _sql(tree))), "boolean")


def _in(tree: exp.In, names: Names) -> Node:
    this, container = _translate(tree.this, names), tree.args.get("field")
    if isinstance(container, exp.List | exp.Anonymous) and len(container.expressions) == 1:
        name = container.expressions[0].name
        if isinstance(container, exp.Anonymous) and container.name.lower() != "list":
            raise ExpressionError(f"{_sql(tree)}: write list('name') after IN")
        if name not in names.lists:
            raise ExpressionError(f"list('{name}'): there is no such list; {_nearest(name, names.lists)}")
        return Call("in_list", (_require(this, "text", "IN list"),), "boolean", (name,))
    values = [_translate(value, names) for value in tree.expressions]
    if not values or not all(isinstance(value, Constant) for value in values):
        raise ExpressionError(f"{_sql(tree)}: IN needs constants in parentheses, or list('name')")
    equal = tuple(_compared("=", this, value, _sql(tree)) for value in values)
    if this.kind == "text":
        return Call(
            "in", (this,), "boolean", tuple(str(value.value) for value in values if isinstance(value, Constant))
        )
    return Call("or", equal, "boolean")


def _is(tree: exp.Is, names: Names) -> Node:
    this = _translate(tree.this, names)
    match tree.expression:
        case exp.Null():
            return Call("is_null", (this,), "boolean")
        case exp.Boolean(this=value):
            known = Call("not", (Call("is_null", (this,), "boolean"),), "boolean")
            same = _compared("=", this, Constant(bool(value), "boolean"), _sql(tree))
            return Call("and", (known, same), "boolean")
        case _:
            raise ExpressionError(f"{_sql(tree)}: write IS NULL, IS NOT NULL, IS TRUE or IS FALSE")


def _like(operator: str) -> Callable[[Any, Names], Node]:
    def translate(tree: exp.Binary, names: Names) -> Node:
        this, pattern = _require(_translate(tree.left, names), "text", "LIKE"), tree.right
        if not (isinstance(pattern, exp.Literal) and pattern.is_string):
            raise ExpressionError(f"{_sql(tree)}: LIKE needs a text in quotes, such as 'gift%'")
        return Call(operator, (this,), "boolean", (pattern.this,))

    return translate


def _arithmetic(operator: str) -> Callable[[Any, Names], Node]:
    def translate(tree: exp.Binary, names: Names) -> Node:
        sides = (_require(_translate(side, names), "number", operator) for side in (tree.left, tree.right))
        return Call(operator, tuple(sides), "number")

    return translate


def _function(operator: str, takes: Kind, gives: Kind) -> Callable[[Any, Names], Node]:
    def translate(tree: exp.Func, names: Names) -> Node:
        this = _require(_translate(tree.this, names), takes, operator)
        if isinstance(this, Constant):
            raise ExpressionError(f"{_sql(tree)}: the argument is a constant; write its value")
        return Call(operator, (this,), gives)

    return translate


def _coalesce(tree: exp.Coalesce, names: Names) -> Node:
    first, *others = (_translate(argument, names) for argument in (tree.this, *tree.expressions))
    if isinstance(first, Constant) or any(other.kind != first.kind for other in others):
        raise ExpressionError(f"{_sql(tree)}: COALESCE needs a field first, and values of its type after it")
    return Call("coalesce", (first, *others), first.kind)


def _anonymous(tree: exp.Anonymous, names: Names) -> Node:
    if tree.name.lower() != "hours_since" or len(tree.expressions) != 1:
        raise ExpressionError(f"{_sql(tree)}: rules have no such function; docs/how-to/write-a-rule.md lists them")
    return Call("hours_since", (_require(_translate(tree.expressions[0], names), "time", "hours_since"),), "number")


def _require(node: Node, kind: Kind, where: str) -> Node:
    if node.kind != kind:
        hint = "; compare the value, as in amount > 500" if kind == "boolean" else ""
        raise ExpressionError(f"{where} needs a value of type {kind}, and {_shown(node)} is a {node.kind}{hint}")
    return node


def _shown(node: Node) -> str:
    match node:
        case Column(name=name):
            return name
        case Constant(value=value):
            return repr(value)
        case Call(operator=operator):
            return f"the result of {operator}"


def _sql(tree: exp.Expr) -> str:
    text = tree.sql(dialect="postgres")
    return text if len(text) <= 80 else f"{text[:77]}..."


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    if near:
        return f"did you mean {near[0]}?"
    return "see docs/how-to/write-a-rule.md" if known else "there is none yet: `fraud-detect lists create` makes one"


_BINARY: Final = frozenset({"this", "expression", "expressions"})
_ARGUMENTS: Final[Mapping[type, frozenset[str]]] = MappingProxyType(
    {
        exp.Column: frozenset({"this", "table"}),
        exp.Literal: frozenset({"this", "is_string"}),
        exp.Between: frozenset({"this", "low", "high", "symmetric"}),
        exp.In: frozenset({"this", "expressions", "field", "query"}),
        exp.Cast: frozenset({"this", "to"}),
        exp.Div: frozenset({"this", "expression", "typed", "safe"}),
    }
)
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_TIMES: Final = (exp.DataType.Type.TIMESTAMP, exp.DataType.Type.TIMESTAMPTZ, exp.DataType.Type.DATE)
_TRANSLATORS: Final[Mapping[type, Callable[[Any, Names], Node]]] = MappingProxyType(
    {
        exp.Column: _column,
        exp.Literal: _literal,
        exp.Boolean: lambda tree, _names: Constant(bool(tree.this), "boolean"),
        exp.Null: lambda _tree, _names: Constant(None, "text"),
        exp.Paren: lambda tree, names: _translate(tree.this, names),
        exp.Neg: _negative,
        exp.And: _connective("and"),
        exp.Or: _connective("or"),
        exp.Not: _not,
        exp.EQ: _comparison("="),
        exp.NEQ: _comparison("<>"),
        exp.GT: _comparison(">"),
        exp.GTE: _comparison(">="),
        exp.LT: _comparison("<"),
        exp.LTE: _comparison("<="),
        exp.Between: _between,
        exp.In: _in,
        exp.Is: _is,
        exp.Like: _like("like"),
        exp.ILike: _like("ilike"),
        exp.Add: _arithmetic("+"),
        exp.Sub: _arithmetic("-"),
        exp.Mul: _arithmetic("*"),
        exp.Div: _arithmetic("/"),
        exp.Abs: _function("abs", "number", "number"),
        exp.Lower: _function("lower", "text", "text"),
        exp.Upper: _function("upper", "text", "text"),
        exp.Length: _function("length", "text", "number"),
        exp.Coalesce: _coalesce,
        exp.Anonymous: _anonymous,
        exp.Cast: _cast,
    }
)
