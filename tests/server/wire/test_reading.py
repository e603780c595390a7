"""Strict JSON before any field is looked at."""

import pytest

from server.errors import InvalidValue
from server.wire.reading import DEEPEST, read_json, without_nulls


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"NaN",
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1, "b": {"c": 1, "c": 1}}',
        b'{"a": 1, "\\u0061": 1}',
        b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
        b"[" * 100_000,
        b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_other_parsers_let_pass_is_refused(body: bytes):
    with pytest.raises(InvalidValue):
        read_json(body)


def test_nesting_up_to_the_cap_is_read():
    assert read_json(b"[" * DEEPEST + b"]" * DEEPEST)


def test_a_long_number_is_no_crash():
    with pytest.raises(InvalidValue):
        read_json(b"[" + b"9" * 100_000 + b"]")


def test_an_error_does_not_repeat_the_body():
    with pytest.raises(InvalidValue) as refusal:
        read_json(b'{"password": "hunter2" oops}')
    assert "hunter2" not in str(refusal.value)


def test_nulls_inside_data_are_data():
    schema = {"enum": [None, 1], "default": None}
    value = {"a": None, "b": [{"c": None}], "schema": schema}
    assert without_nulls(value) == {"b": [{}], "schema": schema}
