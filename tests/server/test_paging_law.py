"""Paging law: whatever the limit and the order, and whatever leaves between pages, each item that stays
comes once, and the pages end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ulid import ULID

from indexer.catalogue import Catalogue
from indexer.uploads import find, keep, listed, receiving, remove
from server.errors import InvalidValue, UnsupportedParameter
from server.wire.cursors import list_body, read_window


@pytest.fixture
def catalogue(tmp_path):
    catalogue = Catalogue(tmp_path)
    yield catalogue
    catalogue.close()


def put(catalogue, tenant):
    with receiving(catalogue) as incoming:
        incoming.write(b"x")
        return keep(catalogue, incoming, tenant=tenant, filename="a", purpose="assistants").id


@settings(max_examples=60, deadline=None)
@given(
    many=st.integers(0, 9),
    limit=st.integers(1, 6),
    order=st.sampled_from(["asc", "desc"]),
    leaving=st.lists(st.integers(0, 8), max_size=4),
)
def test_each_item_that_stays_comes_once_and_the_pages_end(tmp_path_factory, many, limit, order, leaving):
    catalogue = Catalogue(tmp_path_factory.mktemp("paging"))
    mine = [put(catalogue, "mine") for _ in range(many)]
    for _ in range(2):
        put(catalogue, "another")
    seen, gone, cursor = [], set(), {}
    while True:
        window = read_window({"limit": str(limit), "order": order, **cursor}, "file-")
        page = listed(catalogue, "mine", window)
        body = list_body([{"id": upload.id} for upload in page.items], page)
        seen += [item["id"] for item in body["data"]]
        if not body["has_more"]:
            break
        cursor = {"after": body["last_id"]}
        if leaving and (number := leaving.pop()) < many and mine[number] not in gone:
            remove(catalogue, "mine", mine[number])
            gone.add(mine[number])
    catalogue.close()
    assert seen == sorted(set(seen), reverse=order == "desc")
    assert set(mine) - gone <= set(seen) <= set(mine)


def test_before_is_the_end_of_the_range(catalogue):
    ids = sorted(put(catalogue, "t") for _ in range(5))
    window = read_window({"order": "asc", "after": ids[0], "before": ids[3]}, "file-")
    page = listed(catalogue, "t", window)
    assert ([upload.id for upload in page.items], page.more) == (ids[1:3], False)
    assert find(catalogue, "t", ids[0]).id == ids[0]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": f"vs_{ULID()}"}, "after"),
        ({"before": "file-1"}, "before"),
    ],
)
def test_a_window_that_is_none_is_refused(query, param):
    with pytest.raises(InvalidValue) as refusal:
        read_window(query, "file-")
    assert refusal.value.param == param
    with pytest.raises(UnsupportedParameter):
        read_window({"page": "2"}, "file-")
