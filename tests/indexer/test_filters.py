"""The grammar of filters, and what they allow."""

import contextlib
import json
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.attributes import Attributes, Described, check_kinds
from indexer.errors import FilterInvalid
from indexer.filters import Comparison, Compound, parse_filter, read_filter

YEAR = {"type": "gte", "key": "year", "value": 2020}


def test_a_nested_filter_is_read():
    found = parse_filter(
        {"type": "and", "filters": [YEAR, {"type": "in", "key": "lang", "value": ["de", "en"]}]}
    )
    assert found == Compound(
        "and", (Comparison("gte", "year", (2020.0,)), Comparison("in", "lang", ("de", "en")))
    )
    assert [part.at for part in found.filters] == ["filters.filters[0]", "filters.filters[1]"]


@pytest.mark.parametrize(
    ("wrong", "places"),
    [
        (7, ["filters"]),
        ({}, ["filters.type"]),
        ({"type": "like", "key": "a", "value": "b"}, ["filters.type"]),
        ({"type": [], "key": "a", "value": "b"}, ["filters.type"]),
        ({"type": "eq", "key": "a"}, ["filters.value"]),
        ({"type": "eq", "key": "", "value": "b"}, ["filters.key"]),
        ({"type": "eq", "key": "k" * 65, "value": "b"}, ["filters.key"]),
        ({"type": "eq", "key": "a", "value": [1]}, ["filters.value"]),
        ({"type": "eq", "key": "a", "value": float("nan")}, ["filters.value"]),
        ({"type": "eq", "key": "a", "value": 10**400}, ["filters.value"]),
        ({"type": "gt", "key": "a", "value": True}, ["filters.value"]),
        ({"type": "in", "key": "a", "value": "b"}, ["filters.value"]),
        ({"type": "nin", "key": "a", "value": [1] * 1001}, ["filters.value"]),
        ({"type": "in", "key": "a", "value": [1, None, {}]}, ["filters.value[1]", "filters.value[2]"]),
        ({"type": "eq", "key": "a", "value": 1, "valeu": 2}, ["filters.valeu"]),
        ({"type": "and", "filters": []}, ["filters.filters"]),
        ({"type": "or", "filters": [YEAR] * 33}, ["filters.filters"]),
        ({"type": "or", "filters": [{"type": "or", "filters": [YEAR] * 11}] * 3}, ["filters"]),
        (
            {"type": "or", "filters": [YEAR, {"type": "eq", "value": 1}, {"type": "gt", "key": "x"}]},
            ["filters.filters[1].key", "filters.filters[2].value"],
        ),
        (
            {"type": "or", "filters": [{"type": "or", "filters": [{"type": "or", "filters": [
                {"type": "or", "filters": [YEAR]}]}]}]},
            ["filters.filters[0].filters[0].filters[0].filters[0]"],
        ),
    ],
)  # fmt: skip
def test_every_problem_is_named_by_its_place(wrong, places):
    with pytest.raises(FilterInvalid) as refusal:
        parse_filter(wrong)
    assert [problem.at for problem in refusal.value.problems] == places
    assert all(place in str(refusal.value) for place in places)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "key", "value", "filters", "x"]), inner, max_size=4)
        | st.fixed_dictionaries(
            {"type": st.sampled_from(["and", "or"]), "filters": st.lists(inner, max_size=3)}
        )
    ),
    max_leaves=20,
)


@given(anything)
def test_whatever_comes_is_read_or_refused(value):
    with contextlib.suppress(FilterInvalid):
        assert parse_filter(value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("year >= 2020", Comparison("gte", "year", (2020.0,))),
        ("year<2020.5", Comparison("lt", "year", (2020.5,))),
        ("lang = de", Comparison("eq", "lang", ("de",))),
        ('year == "2020"', Comparison("eq", "year", ("2020",))),
        ("draft != true", Comparison("ne", "draft", (True,))),
        ("lang in de, en", Comparison("in", "lang", ("de", "en"))),
        ("n nin 1,2", Comparison("nin", "n", (1.0, 2.0))),
        ("title = a = b", Comparison("eq", "title", ("a = b",))),
        (json.dumps(YEAR), Comparison("gte", "year", (2020.0,))),
    ],
)
def test_a_filter_can_be_typed(typed, meant):
    assert read_filter(typed) == meant


@pytest.mark.parametrize("typed", ["", "year", "= 3", "{", "[1]", "in x"])
def test_what_is_no_filter_is_refused_with_an_example(typed):
    with pytest.raises(FilterInvalid, match=r"JSON|KEY"):
        read_filter(typed)


# Small ranges, so that values meet.
values = st.sampled_from(["a", "b", "2", "", 1.0, 2.0, 2.5, -3.0, True, False])
keys = st.sampled_from(["x", "y", "z"])
leaves = st.one_of(
    st.builds(lambda o, k, v: Comparison(o, k, (v,)), st.sampled_from(["eq", "ne"]), keys, values),
    st.builds(
        lambda o, k, v: Comparison(o, k, (v,)),
        st.sampled_from(["gt", "gte", "lt", "lte"]),
        keys,
        values.filter(lambda value: not isinstance(value, bool)),
    ),
    st.builds(
        lambda o, k, v: Comparison(o, k, tuple(v)),
        st.sampled_from(["in", "nin"]),
        keys,
        st.lists(values, max_size=4),
    ),
)
filters = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda junction, parts: Compound(junction, tuple(parts)),
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)
documents = st.lists(st.tuples(st.dictionaries(keys, values), st.integers(1, 3)), max_size=12)


def passes(wanted, attributes):
    """The filter by the book, one document at a time."""
    if isinstance(wanted, Compound):
        results = [passes(part, attributes) for part in wanted.filters]
        return all(results) if wanted.junction == "and" else any(results)
    missing = wanted.operator in ("ne", "nin")
    if wanted.key not in attributes:
        return missing
    value = attributes[wanted.key]
    alike = [one for one in wanted.values if (type(one) is bool, type(one) is str)
             == (type(value) is bool, type(value) is str)]  # fmt: skip
    if wanted.operator in ("eq", "in", "ne", "nin"):
        return (value in alike) != missing
    compare = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}[wanted.operator]
    return any(compare(value, one) for one in alike)


@given(documents=documents, wanted=filters, cut=st.integers(0, 12))
def test_the_columns_allow_what_the_book_allows_also_when_they_grew(documents, wanted, cut):
    columns, expected, chunk = Attributes(), [], 0
    batches = [[], []]
    for at, (attributes, many) in enumerate(documents):
        for _ in range(many):
            chunk += 2  # ids have gaps
            batches[at >= cut].append(Described(chunk, at, attributes))
            if passes(wanted, attributes):
                expected.append(chunk)
    for batch in batches:
        columns.add(batch)
        columns.allowed(wanted)  # what is remembered must not outlive the next batch
    assert columns.allowed(wanted).tolist() == expected
    assert columns.allowed(wanted).dtype == np.int64


def test_true_and_one_are_two_questions():
    columns = Attributes()
    columns.add([Described(1, 1, {"x": True}), Described(2, 2, {"x": 1.0})])
    assert columns.allowed(read_filter("x = true")).tolist() == [1]
    assert columns.allowed(read_filter("x = 1")).tolist() == [2]


def test_a_value_of_a_kind_that_an_attribute_never_has_is_refused():
    columns = Attributes()
    columns.add([Described(1, 1, {"year": 2020.0}), Described(2, 2, {"year": "unknown", "draft": True})])
    check_kinds(read_filter("year = unknown"), [columns])
    check_kinds(read_filter("nobody = 3"), [columns])
    with pytest.raises(
        FilterInvalid, match=r"filter\.value compares 'draft', which holds boolean values, with a s"
    ):
        check_kinds(read_filter("draft = yes"), [columns])


@pytest.mark.parametrize("text", ['{"a":' + "[" * 5000, "a = " + "[" * 5000, "a in " + "[" * 5000])
def test_what_is_nested_too_deep_is_no_filter_or_a_word(text):
    with contextlib.suppress(FilterInvalid):
        read_filter(text)
