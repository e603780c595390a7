"""Records as JSON: what `json.dumps` made of them, made faster."""

import json
from dataclasses import asdict

from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.records import Call, Message
from server.journal_text import as_json, flat, spoken

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
CALLS = st.lists(st.builds(Call, TEXTS, TEXTS, TEXTS), max_size=2).map(tuple)
MESSAGES = st.builds(Message, st.sampled_from(["user", "tool"]), TEXTS, CALLS, st.none() | TEXTS)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


@settings(deadline=None)
@given(VALUES)
def test_values_are_spelt_as_the_standard_library_does(value):
    assert as_json(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=3), st.dictionaries(st.integers(-9, 9), st.floats(-2, 2)))
def test_records_read_back_as_what_they_are(messages, biases):
    assert json.loads(as_json([flat(message) for message in messages])) == json.loads(
        json.dumps([asdict(message) for message in messages])
    )
    said = json.loads(as_json([spoken(message) for message in messages]))
    assert [one["text"] for one in said] == [message.text for message in messages]
    assert all("calls" in one or not message.calls for one, message in zip(said, messages, strict=True))
    assert {int(key): value for key, value in json.loads(as_json(biases)).items()} == biases
