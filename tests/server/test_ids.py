"""Ids are ULIDs: other readers agree, and they sort by time."""

import time

from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from server import ids


@given(milliseconds=st.integers(0, 2**48 - 1), random=st.binary(min_size=10, max_size=16))
def test_an_id_is_spelled_as_the_standard_has_it(milliseconds, random):
    assert ids.spelled(milliseconds, random) == str(ULID(milliseconds.to_bytes(6, "big") + random[:10]))


def test_an_id_tells_when_it_was_made_and_comes_once():
    made = [ids.new_id("resp_") for _ in range(1_000)]
    assert len(set(made)) == len(made)
    assert abs(ULID.from_str(made[-1].removeprefix("resp_")).timestamp - time.time()) < 60
