"""Membership of lists: ends, prefixes, networks, many values, and changes in any order."""

import numpy as np
import pytest

from fraud_pipeline.policy.value_lists import NO_END, Match, ValueList, list_key


@pytest.mark.parametrize(
    ("match", "values", "inside", "outside"),
    [
        ("exact", ["c-1", "c-22"], ["c-1", "c-22"], ["c-2", "c-1 ", ""]),
        ("prefix", ["4147", "55"], ["4147", "414720", "5500"], ["414", "5", "64147"]),
        (
            "cidr",
            ["203.0.113.9/24", "198.51.100.7", "2001:db8::/33"],
            ["203.0.113.255", "198.51.100.7", "2001:db8:7fff::1"],
            ["203.0.114.1", "198.51.100.8", "2001:db8:8000::1", "no address"],
        ),
    ],
)
def test_values_match_as_the_list_says(match: Match, values: list[str], inside: list[str], outside: list[str]) -> None:
    some = ValueList.of(dict.fromkeys(values, NO_END), match=match)
    asked = np.array([*inside, *outside, None], object)
    expected = [1] * len(inside) + [-1] * len(outside) + [0]
    assert some.contains(asked, np.zeros(len(asked), np.int64)).tolist() == expected
    many = np.tile(asked, 20)
    assert some.contains(many, np.zeros(len(many), np.int64)).tolist() == expected * 20


def test_a_value_ends_and_the_last_change_counts() -> None:
    some = ValueList.of({"a": 10, "b": 20})
    asked, at = np.array(["a", "b", "a", "b"], object), np.array([9, 19, 10, 20])
    assert some.contains(asked, at).tolist() == [1, 1, -1, -1]
    keys = np.array([list_key(value, "exact") for value in ("a", "c", "b", "c", "a")])
    changed = some.changed(keys, np.array([0, 5, 0, 0, 30]), widths={""})
    assert changed.contains(np.array(["a", "b", "c"], object), np.array([29, 0, 0])).tolist() == [1, -1, -1]
    assert changed.keys.shape == (1,)
