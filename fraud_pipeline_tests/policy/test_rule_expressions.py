"""Rule expressions: what is refused and how, and the same truth as DuckDB on random conditions and rows with NULLs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_pipeline.policy.expressions import ExpressionError, Names, columns_of, parse_expression
from fraud_pipeline.policy.rule_program import RuleProgram
from fraud_pipeline.policy.value_lists import NO_END, ValueList
from fraud_pipeline.schema.transactions import HOUR

NAMES = Names(own_fields={"is_vip": "boolean", "device_id": "identifier", "opened": "time"}, lists=["trusted"])
NUMBERS = ("amount", "latitude", "probability")
TEXTS = ("country", "device_id")


def true_rows(text: str, columns: dict[str, list[object]]) -> list[bool]:
    """Whether a condition is true of each row."""
    n_rows = len(next(iter(columns.values())))
    kinds = {column.name: column.kind for column in columns_of(parse_expression(text, NAMES))}

    def array(name: str) -> np.ndarray:
        if kinds[name] == "boolean":
            return np.array([{None: 0, True: 1, False: -1}[value] for value in columns[name]], np.int8)  # type: ignore[index]  # a boolean or None
        return np.array(columns[name], object if kinds[name] == "text" else np.float64)

    program = RuleProgram([parse_expression(text, NAMES)])
    lists = {"trusted": ValueList.of({"DE": NO_END})}
    at = np.zeros(n_rows, np.int64)
    (result,) = program.evaluate(lambda column: array(column.name), n_rows=n_rows, at=at, lists=lists)
    return [bool(value) for value in result]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("amnt > 3", "amnt: no field or feature has this name; did you mean amount?"),
        ("amount", "amount is a number; compare the value"),
        ("amount > 'x'", "compares a number with a text"),
        ("country > 'DE'", "have no order"),
        ("country = NULL", "write IS NULL"),
        ("1 = 1", "both sides are constants"),
        ("true", "reads no field"),
        ("amount >", "cannot be read"),
        ("amount > 1; DROP TABLE decisions", "no such operation"),
        ("amount > (SELECT 1)", "no such operation"),
        ("pg_sleep(9) > 1", "no such function"),
        ("decisions.amount > 1", "no tables"),
        ("country ~ 'D.*'", "no such operation"),
        ("amount::text = '1'", "convert no types"),
        ("country IN list('trusteed')", "did you mean trusted?"),
        ("country IN (SELECT 'DE')", "IN needs constants"),
        ("event_time > 'yesterday'", "is no time"),
        ("amount > 1e999", "too large"),
        ("(" * 5_000, "more than 4,000 characters"),
        ("NOT " * 900 + "is_vip", "nested too deeply"),
    ],
)
def test_a_wrong_condition_is_refused_with_the_problem_and_the_remedy(text: str, message: str) -> None:
    with pytest.raises(
        ExpressionError, match="(?s)" + "".join(f"[{letter}]" if letter in "?.*()" else letter for letter in message)
    ):
        parse_expression(text, NAMES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("country IN list('trusted')", [True, False, False]),
        ("country NOT IN list('trusted')", [False, True, False]),
        ("NOT (country = 'DE' AND amount > 1)", [False, True, False]),
        ("is_vip", [True, False, False]),
        ("is_vip IS NOT TRUE", [False, True, True]),
        ("NOT is_vip OR country IS NULL", [False, True, True]),
        ("hours_since(opened) >= 2", [True, False, False]),
        ("opened < '1970-01-01'", [True, False, False]),
        ("amount / 0 > 1 OR amount = 5", [True, False, False]),
        ("lower(country) = 'de' AND length(country) = 2", [True, False, False]),
        ("coalesce(country, 'XX') IN ('XX', 'NG')", [False, True, True]),
        ("amount BETWEEN 5 AND 6", [True, False, False]),
        ("country LIKE '\\%_' OR country ILIKE 'd_'", [True, True, False]),
    ],
)
def test_a_condition_is_true_of_exactly_these_rows(text: str, expected: list[bool]) -> None:
    columns: dict[str, list[object]] = {
        "country": ["DE", "%G", None],
        "amount": [5.0, 1.0, None],
        "is_vip": [True, False, None],
        "opened": [-2.0 * HOUR, 0.0, None],
    }
    assert true_rows(text.replace("'NG'", "'%G'"), columns) == expected


comparisons = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
numbers = st.sampled_from(
    [*NUMBERS, "(amount + latitude)", "(amount * probability)", "abs(latitude)", "coalesce(probability, 1)"]
)
texts = st.sampled_from([*TEXTS, "lower(country)", "upper(device_id)"])
words = st.sampled_from(["a", "A", "ab", "%", "a_b", ""])
atoms = st.one_of(
    st.builds("{} {} {}".format, numbers, comparisons, st.one_of(numbers, st.integers(-2, 2))),
    st.builds("{} {} '{}'".format, texts, st.sampled_from(["=", "<>"]), words),
    st.builds("{} IN ('{}', '{}')".format, texts, words, words),
    st.builds(
        "{} {} '{}{}{}'".format,
        texts,
        st.sampled_from(["LIKE", "NOT LIKE", "ILIKE"]),
        words,
        st.sampled_from("%_"),
        words,
    ),
    st.builds("{} IS {}NULL".format, st.one_of(numbers, texts), st.sampled_from(["", "NOT "])),
    st.builds("{} {}BETWEEN {} AND 1".format, numbers, st.sampled_from(["", "NOT "]), st.integers(-1, 1)),
    st.sampled_from(["is_vip", "is_vip = FALSE", "is_vip IS NOT FALSE", "(amount > 0) = is_vip"]),
)
conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=6,
)
rows_of_values = st.lists(
    st.tuples(
        *[st.one_of(st.none(), st.sampled_from([-1.5, -1.0, 0.0, 0.5, 1.0, 2.0]))] * 3,
        *[st.one_of(st.none(), words)] * 2,
        st.one_of(st.none(), st.booleans()),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(condition=conditions, rows=rows_of_values)
def test_random_conditions_are_as_true_as_in_duckdb(condition: str, rows: list[tuple[object, ...]]) -> None:
    duckdb = pytest.importorskip("duckdb")
    names = (*NUMBERS, *TEXTS, "is_vip")
    types = ", ".join(
        f"{name} {'DOUBLE' if name in NUMBERS else 'VARCHAR' if name in TEXTS else 'BOOLEAN'}" for name in names
    )
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t (number INTEGER, {types})")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?)", [(number, *row) for number, row in enumerate(rows)]
        )
        query = f"SELECT number FROM t WHERE {condition}"  # noqa: S608 - our own condition, in a database of its own
        matched = {number for (number,) in connection.execute(query).fetchall()}
    columns: dict[str, list[object]] = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    expected = [number in matched for number in range(len(rows))]
    assert true_rows(condition, columns) == expected
    assert [true_rows(condition, {name: [row[place]] for place, name in enumerate(names)}) for row in rows] == [
        [value] for value in expected
    ]
