"""The one engine of rules: checked expressions become steps over arrays, live and in backtests.

Belongs here: compilation and evaluation with SQL's three-valued logic. Must not be here: parsing (`expressions.py`),
what a match leads to (`analyst_rules.py`).

Own code, because of the cost of a call. 200 rules of three comparisons on one transaction took 5.9 ms as Polars
expressions, 74 ms in DuckDB and 0.7 ms here (medians; `benchmarks/rules.py` measures ours). Truth is 1, 0 (unknown) or
-1, so AND is the minimum, OR the maximum and NOT the negative. NaN and None are NULL. Equal parts of all rules are one
step, and steps of one kind are one call of numpy.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.policy.expressions import Call, Column, Constant, Node
from fraud_pipeline.policy.value_lists import ValueList, is_none
from fraud_pipeline.schema.transactions import HOUR

Truth = NDArray[np.int8]
Read = Callable[[Column], NDArray[Any]]
"""The values of a column, shape (n,): float64 for numbers and times, objects for texts, int8 truth for booleans."""
_WILDCARD: Final = re.compile(r"\\(.)|([%_])|(.)", re.DOTALL)


@dataclass(slots=True)
class _Context:
    """One evaluation: the result of each node by its place, and the truth of boolean nodes as rows."""

    truth: Truth
    numbers: NDArray[np.float64]
    values: dict[int, Any]
    lists: Mapping[str, ValueList]
    at: NDArray[np.int64]


@dataclass(slots=True)
class _Places:
    """The place of each distinct node, children before parents, and the depth of each."""

    of: dict[Node, int] = field(default_factory=dict)
    depths: list[int] = field(default_factory=list)

    def add(self, node: Node) -> int:
        """The place of a node, which is new or known."""
        if node not in self.of:
            children = [self.add(argument) for argument in node.arguments] if isinstance(node, Call) else []
            self.of[node] = len(self.of)
            self.depths.append(1 + max((self.depths[child] for child in children), default=-1))
        return self.of[node]


class RuleProgram:
    """The expressions of all rules, compiled together."""

    def __init__(self, roots: Sequence[Node]) -> None:
        places = _Places()
        self._roots = np.array([places.add(root) for root in roots], np.intp)
        self._n_nodes = len(places.of)
        self._columns = [(place, node) for node, place in places.of.items() if isinstance(node, Column)]
        self._numbers = [(place, node) for place, node in self._columns if node.kind in ("number", "time")]
        self._number_rows = {place: row for row, (place, _) in enumerate(self._numbers)}
        self._constants = {place: node.value for node, place in places.of.items() if isinstance(node, Constant)}
        self._booleans = [
            (place, bool(node.value))
            for node, place in places.of.items()
            if isinstance(node, Constant) and node.kind == "boolean"
        ]
        self._steps = self._schedule(places)

    def evaluate(
        self, read: Read, *, n_rows: int, at: NDArray[np.int64], lists: Mapping[str, ValueList]
    ) -> NDArray[np.bool_]:
        """Whether each expression is true of each row, shape (expressions, rows); `at` are the rows' times."""
        context = _Context(
            truth=np.zeros((self._n_nodes, n_rows), np.int8),
            numbers=np.empty((len(self._numbers), n_rows)),
            values=dict(self._constants),
            lists=lists,
            at=at,
        )
        for place, column in self._columns:
            values = read(column)
            if column.kind == "boolean":
                context.truth[place] = values
            elif column.kind == "text":
                context.values[place] = values
            else:
                row = self._number_rows[place]
                context.numbers[row] = values
                context.values[place] = context.numbers[row]
        for place, value in self._booleans:
            context.truth[place] = 1 if value else -1
        with np.errstate(all="ignore"):
            for step in self._steps:
                step(context)
        true: NDArray[np.bool_] = context.truth[self._roots] == 1
        return true

    def _schedule(self, places: _Places) -> list[Callable[[_Context], None]]:
        """The steps by depth; nodes of one depth and kind share a step where numpy can do them at once."""
        groups: dict[tuple[int, str], list[tuple[int, Call]]] = {}
        for node, place in places.of.items():
            if not isinstance(node, Call):
                continue
            shared = node.operator in _SHARED or (node.operator in _COMPARE and self._compares_constant(node, places))
            name = node.operator if shared else f"{node.operator} {place}"
            groups.setdefault((places.depths[place], name), []).append((place, node))
        return [self._step(groups[key], places) for key in sorted(groups, key=lambda depth_and_name: depth_and_name[0])]

    def _compares_constant(self, node: Call, places: _Places) -> bool:
        left, right = node.arguments
        return places.of[left] in self._number_rows and isinstance(right, Constant)

    def _step(self, nodes: list[tuple[int, Call]], places: _Places) -> Callable[[_Context], None]:
        targets = np.array([place for place, _ in nodes], np.intp)
        first = nodes[0][1]
        arguments = [[places.of[argument] for argument in node.arguments] for _, node in nodes]
        if first.operator in ("and", "or"):
            starts = np.cumsum([0, *(len(children) for children in arguments[:-1])])
            children = np.concatenate([np.array(each, np.intp) for each in arguments])
            reduce = np.minimum if first.operator == "and" else np.maximum
            return partial(_connect, reduce, children, starts, targets)
        if first.operator == "not":
            return partial(_negate, np.array([child for (child,) in arguments], np.intp), targets)
        if first.operator in _COMPARE and self._compares_constant(first, places):
            rows = np.array([self._number_rows[left] for left, _ in arguments], np.intp)
            constants = np.array([[self._constants[right]] for _, right in arguments], np.float64)
            return partial(_compare_constants, _COMPARE[first.operator], rows, constants, targets)
        return partial(_call, first, arguments[0], nodes[0][0])


def _connect(
    reduce: np.ufunc, children: NDArray[np.intp], starts: NDArray[np.intp], targets: NDArray[np.intp], context: _Context
) -> None:
    context.truth[targets] = reduce.reduceat(context.truth[children], starts, axis=0)


def _negate(children: NDArray[np.intp], targets: NDArray[np.intp], context: _Context) -> None:
    context.truth[targets] = -context.truth[children]


def _compare_constants(
    compare: Callable[[Any, Any], Truth],
    rows: NDArray[np.intp],
    constants: NDArray[np.float64],
    targets: NDArray[np.intp],
    context: _Context,
) -> None:
    context.truth[targets] = compare(context.numbers[rows], constants)


def _ordered(holds: np.ufunc, fails: np.ufunc, left: Any, right: Any) -> Truth:
    """A comparison minus its opposite: NaN satisfies neither, so the result is unknown."""
    return np.asarray(holds(left, right).astype(np.int8) - fails(left, right).astype(np.int8))


def _equal(sign: int, left: Any, right: Any) -> Truth:
    different = np.less(left, right) | np.greater(left, right)
    return np.asarray(sign * (np.equal(left, right).astype(np.int8) - different.astype(np.int8)))


def _call(node: Call, arguments: Sequence[int], place: int, context: _Context) -> None:
    """One node alone; a boolean argument is its row of truth."""
    values = [
        context.truth[argument] if child.kind == "boolean" else context.values[argument]
        for argument, child in zip(arguments, node.arguments, strict=True)
    ]
    kind = node.arguments[0].kind
    if node.operator == "in_list":
        context.truth[place] = context.lists[node.texts[0]].contains(values[0], context.at)
    elif node.operator == "hours_since":
        context.values[place] = (context.at - values[0]) / HOUR
    elif node.operator in _COMPARE and kind not in ("number", "time"):
        context.truth[place] = _same(node.operator, kind, *values)
    elif node.operator in _COMPARE:
        context.truth[place] = _COMPARE[node.operator](*values)
    elif node.operator == "is_null":
        context.truth[place] = np.where(_null(kind, values[0]), 1, -1)
    elif node.operator == "coalesce":
        result = values[0]
        for other in values[1:]:
            result = np.where(_null(kind, result), other, result)
        if node.kind == "boolean":
            context.truth[place] = result
        else:
            context.values[place] = result
    elif node.operator in _TEXT_TESTS:
        context.truth[place] = _tested(_TEXT_TESTS[node.operator](node.texts), values[0])
    else:
        context.values[place] = _FUNCTIONS[node.operator](*values)


def _same(operator: str, kind: str, left: Any, right: Any) -> Truth:
    """Equality of texts or booleans."""
    if kind == "boolean":
        same = left * right
    else:
        same = np.where(np.equal(left, right).astype(np.bool_), 1, -1).astype(np.int8)
        same[is_none(left) | is_none(right)] = 0
    result: Truth = same if operator == "=" else -same
    return result


def _null(kind: str, values: Any) -> NDArray[np.bool_]:
    is_null: Callable[[Any], Any] = _IS_NULL.get(kind, np.isnan)
    return np.asarray(is_null(values), np.bool_)


def _tested(test: Callable[[str], bool], values: NDArray[np.object_]) -> Truth:
    return np.array([0 if value is None else 1 if test(value) else -1 for value in values], np.int8)


def _in(texts: Sequence[str]) -> Callable[[str], bool]:
    return frozenset(texts).__contains__


def _like(texts: Sequence[str], *, ignore_case: bool = False) -> Callable[[str], bool]:
    """A test for a pattern of LIKE: `%` is any text, `_` one character; a backslash makes them plain.

    The pieces between `%` are searched for one after the other, so no pattern takes more than linear steps per piece.
    """
    pieces = [""]
    for escaped, wildcard, plain in _WILDCARD.findall(texts[0]):
        if wildcard == "%":
            pieces.append("")
        else:
            pieces[-1] += "." if wildcard else re.escape(escaped or plain)
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    if len(pieces) == 1:
        whole = re.compile(pieces[0], flags)
        return lambda value: whole.fullmatch(value) is not None
    start, end = re.compile(pieces[0], flags), re.compile(rf"(?:{pieces[-1]})\Z", flags)
    middle = [re.compile(piece, flags) for piece in pieces[1:-1]]

    def test(value: str) -> bool:
        matched = start.match(value)
        for piece in middle:
            matched = matched and piece.search(value, matched.end())
        return matched is not None and end.search(value, matched.end()) is not None

    return test


def _divide(left: Any, right: Any) -> Any:
    return np.where(np.equal(right, 0), np.nan, np.divide(left, right))


def _texts(function: Callable[[str], Any], missing: Any, dtype: Any, values: NDArray[np.object_]) -> NDArray[Any]:
    result = np.empty(len(values), dtype)
    result[:] = [missing if value is None else function(value) for value in values]
    return result


_IS_NULL: Final[Mapping[str, Callable[[Any], Any]]] = {
    "boolean": partial(np.equal, 0),
    "text": is_none,
}
_SHARED: Final = ("and", "or", "not")
_COMPARE: Final[Mapping[str, Callable[[Any, Any], Truth]]] = {
    ">": partial(_ordered, np.greater, np.less_equal),
    ">=": partial(_ordered, np.greater_equal, np.less),
    "<": partial(_ordered, np.less, np.greater_equal),
    "<=": partial(_ordered, np.less_equal, np.greater),
    "=": partial(_equal, 1),
    "<>": partial(_equal, -1),
}
_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "neg": np.negative,
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": _divide,
    "abs": np.abs,
    "lower": partial(_texts, str.lower, None, object),
    "upper": partial(_texts, str.upper, None, object),
    "length": partial(_texts, len, np.nan, np.float64),
}
_TEXT_TESTS: Final[Mapping[str, Callable[[Sequence[str]], Callable[[str], bool]]]] = {
    "in": _in,
    "like": _like,
    "ilike": partial(_like, ignore_case=True),
}
