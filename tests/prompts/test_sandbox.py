"""Wording is checked before it is compiled; values are never read as wording."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from prompts.errors import RenderFailed
from prompts.sandbox import FREE_CHARS, names_in, problems_in, render, render_each


@pytest.mark.parametrize(
    "wording",
    [
        "{{ 'a' * 99999999 }}",
        "{{ 1 + 1 }}",
        "{% set x = 1 %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% macro f() %}{% endmacro %}",
        "{{ x() }}",
        "{{ x.__class__ }}",
        "{{ x['y'] }}",
        "{{ x | default('') }}",
        "{{ x | map('upper') | join }}",
        "{{ x if y else z }}",
        "{{ x ~ y }}",
        "{% for a in x %}{% for b in x %}{% for c in x %}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
        "{{ x }}{{ y }}",
        "{{ x",
    ],
)
def test_whatever_wording_does_not_need_is_refused(wording):
    assert problems_in(wording)
    with pytest.raises(RenderFailed):
        render("system", wording, {"x": "1", "y": "2", "z": "3"})


def test_loops_conditions_and_filters_work():
    listing = "{% for l in labels %}\n- {{ l.text | upper }}\n{% endfor %}\n"
    wording = listing + "{% if not x or y == 'b' %}yes{% endif %}"
    assert problems_in(wording) == []
    assert names_in(wording) == {"labels", "x", "y"}
    labels = [{"text": "one"}, {"text": "two"}]
    assert render("system", wording, {"labels": labels, "x": "", "y": "c"}) == "- ONE\n- TWO\nyes"


def test_a_missing_value_is_an_error_not_a_gap():
    with pytest.raises(RenderFailed, match="'name' is undefined"):
        render("question", "{{ name }}", {})


@given(
    st.sampled_from(
        [
            "100% [{{ item.n }}] {{ item.text }}\n%s {{ item.n }}",
            "{{ other }}: {{ item.text }}",
            "{{ item.text }} {{ item.items }}",
            "{% if item.n %}{{ item.text }}{% endif %}.",
            "{{ item }}",
            "nothing",
        ]
    ),
    st.lists(
        st.fixed_dictionaries(
            {
                "n": st.integers() | st.booleans() | st.none() | st.floats(),
                "text": st.text() | st.just("x" * FREE_CHARS),
            }
        ),
        max_size=3,
    ),
)
def test_each_of_several_reads_as_it_would_alone(wording, items):
    values = {"other": "o", "item": "not this one"}
    alone = [render("item", wording, {**values, "item": item}) for item in items]
    assert render_each("item", wording, values, items) == alone


def test_what_one_of_several_lacks_is_an_error():
    with pytest.raises(RenderFailed, match="has no attribute 'text'"):
        render_each("item", "{{ item.text }}.", {}, [{"text": "a"}, {"n": 1}])


def test_output_is_bounded():
    wording = "{% for a in xs %}{% for b in xs %}{{ word }}{% endfor %}{% endfor %}"
    with pytest.raises(RenderFailed, match="characters come out"):
        render("system", wording, {"xs": ["x"] * 1000, "word": "words " * 10})


@given(st.text())
def test_any_value_renders_verbatim(value):
    assert render("question", "<{{ question }}>", {"question": value}) == f"<{value}>"


SPOKEN = st.text(st.characters(exclude_characters="{}#%"), max_size=6)
VALUES = {"a": SPOKEN, "b": st.integers() | st.booleans() | st.none() | SPOKEN, "c": SPOKEN}


@settings(deadline=None)
@given(
    parts=st.lists(
        st.tuples(SPOKEN, st.sampled_from(["", "{{ a }}", "{{ s.b }}", "{{- s.c -}}", "{{ s.a.d }}"]))
    ),
    a=SPOKEN,
    held=st.fixed_dictionaries({"b": VALUES["b"], "c": VALUES["c"], "a": st.just({"d": "deep"})}),
)
def test_wordings_of_texts_and_values_read_as_jinja_reads_them(parts, a, held):
    wording = "".join(f"{text}.{value}" for text, value in parts)
    whole = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    assert render("a part", wording, {"a": a, "s": held}) == whole.from_string(wording).render(a=a, s=held)
