"""A segment's graph in Milvus: the real client against the real server in this process, milvus-lite."""

import numpy as np
import pytest

from indexer.errors import IndexOptionRefused
from indexer.records import Segment
from indexer.segments import open_segment, remove, stores_folder, write_segment
from indexer.vectors import nearest
from indexer.vectors.calibration import calibrate
from indexer.vectors.milvus import PLACE, Collection, discard
from indexer.vectors.scan import scan

pytest.importorskip("milvus_lite")
MilvusClient = pytest.importorskip("pymilvus").MilvusClient
pytestmark = pytest.mark.slow

ROWS, DIMENSION = 3000, 32


@pytest.fixture(scope="module")
def rows():
    centres = np.random.default_rng(1).normal(size=(40, DIMENSION))
    spread = np.random.default_rng(2).normal(size=(ROWS, DIMENSION)) * 0.4
    found = (centres[np.arange(ROWS) % 40] + spread).astype(np.float32)
    return np.ascontiguousarray(found / np.linalg.norm(found, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return str(tmp_path_factory.mktemp("milvus") / "lite.db")


@pytest.fixture(scope="module")
def collection(rows, uri):
    built = Collection.build(rows, 16, uri)
    assert calibrate(built, rows, 0.95) >= 0.95
    return built


@pytest.mark.parametrize("share", [1.0, 0.7, 0.1, 0.003])
def test_it_finds_what_the_scan_finds(collection, rows, share):
    mask = None if share == 1.0 else np.random.default_rng(3).random(ROWS) < share
    queries = rows[::300] + 0.05
    truth = scan(rows, queries, 10, mask)
    found = collection.search(rows, queries, 10, mask)
    same = [
        len(set(a) & set(b)) for a, b in zip(found.positions.tolist(), truth.positions.tolist(), strict=True)
    ]
    assert np.mean(same) >= 9.5
    if mask is not None:
        assert mask[found.positions[found.positions >= 0]].all()


def test_it_is_found_again_and_dropped(rows, uri, tmp_path):
    Collection.build(rows[:100], 16, uri).dump(tmp_path)
    contents = {PLACE: (tmp_path / PLACE).read_bytes()}
    again = Collection.load(contents, rows[:100], 50)
    assert again.search(rows[:100], rows[:1], 1, None).positions.tolist() == [[0]]
    discard(tmp_path)
    # The rows are here: an answer, and the right one, even when the server's copy is gone.
    assert again.search(rows[:100], rows[:1], 1, None).positions.tolist() == [[0]]


def test_a_segment_is_searched_in_milvus_and_leaves_nothing_there(uri, tmp_path, rows):
    ids = np.arange(5000, dtype=np.int64) + 7
    many = np.ascontiguousarray(np.concatenate([rows, rows[:2000, ::-1]]))
    folder = stores_folder(tmp_path, "vs_1")
    before = set(MilvusClient(uri).list_collections())
    about = {"index": {"kind": "milvus", "uri": uri}}
    digests = write_segment(folder, "s", ids, many, [f"word{row}" for row in ids], about)
    opened = open_segment(tmp_path, Segment("s", "vs_1", 5000, digests), DIMENSION)
    assert opened.vectors.about["kind"] == "milvus"
    found = nearest([opened.vectors], many[0], 10, hidden=ids[:1], allowed=ids[:2000])
    truth = [row for row in np.argsort(-(many @ many[0]), kind="stable") if 0 < row < 2000][:10]
    assert len(set(found.ids) & {int(ids[row]) for row in truth}) >= 9
    assert len(set(MilvusClient(uri).list_collections()) - before) == 1
    remove(folder / "s")
    assert set(MilvusClient(uri).list_collections()) == before
    assert not (folder / "s").exists()


def test_a_server_that_does_not_answer_is_named(tmp_path):
    about = {"index": {"kind": "milvus", "uri": "http://127.0.0.1:9"}}
    rows = np.eye(4000, 8, dtype=np.float32)
    with pytest.raises(IndexOptionRefused, match=r"127\.0\.0\.1:9"):
        write_segment(tmp_path, "s", np.arange(4000), rows, ["x"] * 4000, about)
