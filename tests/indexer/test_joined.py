"""Which sets of indexes are copied together, and when a copy goes."""

import pytest

from indexer.vectors.joined import COPIES_BYTES, MOST, SETTLED_SECONDS, Joined
from indexer.vectors.scan import Whole


class Joiner:
    """Indexes are numbers of bytes; the whole of them says how it was made."""

    def __init__(self):
        self.made = []

    def join(self, indexes, room_bytes):
        copied = sum(indexes) <= room_bytes
        self.made.append(tuple(indexes))
        return Whole(("copy" if copied else "in turn", *indexes), sum(indexes) if copied else 0)


class Apart:
    def join(self, indexes, room_bytes):
        return None


@pytest.fixture
def joiner():
    return Joiner()


@pytest.fixture
def joined(joiner):
    now = [100.0]
    found = Joined(joiner, lambda: now[0])
    found.wait = lambda seconds: now.__setitem__(0, now[0] + seconds)
    return found


HALF = COPIES_BYTES // 2 + 1


def test_a_set_is_joined_once(joined, joiner):
    assert joined.whole(("a", "b"), (1, 2)) == joined.whole(("a", "b"), (1, 2)) == ("copy", 1, 2)
    assert joined.whole(("b", "a"), (2, 1)) == ("copy", 2, 1)
    assert joiner.made == [(1, 2), (2, 1)]


def test_what_has_no_room_is_asked_in_turn_until_there_is_some(joined, joiner):
    assert joined.whole(("a",), (HALF,))[0] == "copy"
    assert joined.whole(("b",), (HALF,))[0] == "in turn"
    joined.wait(SETTLED_SECONDS / 2)
    joined.whole(("a",), (HALF,))
    assert joined.whole(("b",), (HALF,))[0] == "in turn"
    assert len(joiner.made) == 2
    joined.wait(SETTLED_SECONDS + 1)  # nobody asks for the first one any more
    assert joined.whole(("b",), (HALF,))[0] == "copy"
    assert joined.whole(("a",), (HALF,))[0] == "in turn"


def test_what_is_let_go_of_takes_its_sets_along(joined, joiner):
    for keys in (("a", "b"), ("b", "c"), ("a", "c")):
        joined.whole(keys, (1, 1))
    joined.forget(lambda key: key == "b")
    joined.whole(("a", "c"), (1, 1))
    assert len(joiner.made) == 3
    joined.whole(("a", "b"), (1, 1))
    assert len(joiner.made) == 4


def test_sets_are_bounded(joined, joiner):
    for number in range(MOST + 1):
        joined.whole((number,), (1,))
    joined.whole((MOST,), (1,))
    assert len(joiner.made) == MOST + 1
    joined.whole((0,), (1,))  # the one that was asked for longest ago
    assert len(joiner.made) == MOST + 2


def test_none_where_they_cannot_be_joined():
    assert Joined(Apart()).whole(("a", "b"), (1, 2)) is None
