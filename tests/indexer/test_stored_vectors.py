"""What a segment's vectors are on disk, and that an index beside them finds what it promises."""

import json

import faiss
import numpy as np
import pytest

from indexer.errors import IndexOptionRefused, StoreDamaged
from indexer.vectors import NONE, Wanted, choose, describe, nearest, nearest_each, read, wanted, write
from tests.indexer.heaps import DIMENSION, GIB, clustered, contents, written

MANY = 12_000


def recall(found, truth):
    return np.mean(
        [len(set(a.ids) & set(b.ids)) / max(1, len(b.ids)) for a, b in zip(found, truth, strict=True)]
    )


@pytest.fixture(scope="module")
def rows():
    return clustered(MANY, 1)


@pytest.fixture(scope="module")
def questions():
    return clustered(60, 2)


@pytest.fixture(scope="module", params=["ivf float32", "ivf float16", "hnsw float32", "hnsw float16"])
def indexed(request, rows, tmp_path_factory):
    kind, precision = request.param.split()
    return written(tmp_path_factory.mktemp("segment"), rows, kind=kind, precision=precision)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_rows_come_back_from_plain_files_by_increasing_id(tmp_path, precision):
    rows = clustered(300, 3)
    ids = np.random.default_rng(0).permutation(900)[:300]
    asked = Wanted(precision=precision)
    write(tmp_path, ids, rows, choose(300, DIMENSION, asked, GIB), asked)
    back = read(tmp_path, contents(tmp_path), DIMENSION)
    order = np.argsort(ids)
    assert back.ids.tolist() == ids[order].tolist()
    kind = np.float16 if precision == "float16" else np.float32
    assert np.array_equal(back.rows(), rows[order].astype(kind).astype(np.float32))
    assert np.array_equal(back.rows(7), back.rows()[::7])
    assert (tmp_path / f"rows.f{precision[-2:]}").read_bytes() == rows[order].astype(kind).tobytes()


def test_sixteen_bits_find_what_thirty_two_find(tmp_path, rows, questions):
    (tmp_path / "wide").mkdir()
    (tmp_path / "half").mkdir()
    _, wide = written(tmp_path / "wide", rows, kind="flat", precision="float32")
    _, half = written(tmp_path / "half", rows, kind="flat", precision="float16")
    assert recall(nearest_each([half], questions, 10), nearest_each([wide], questions, 10)) >= 0.995


def test_an_index_finds_what_was_asked_of_it(indexed, rows, questions, tmp_path):
    _, stored = indexed
    truth = exact(indexed, rows, questions)
    assert stored.shortcut is not None
    assert recall(nearest_each([stored], questions, 10), truth) >= 0.95


@pytest.mark.parametrize("share", [0.001, 0.01, 0.03, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("dead", [0.0, 0.3])
def test_an_index_keeps_its_recall_under_filters_and_tombstones(indexed, rows, questions, share, dead):
    ids, stored = indexed
    chance = np.random.default_rng(int(1000 * share))
    allowed = ids[chance.random(len(ids)) < share]
    hidden = ids[chance.random(len(ids)) < dead]
    seen = np.setdiff1d(allowed, hidden)
    found = nearest_each([stored], questions, 10, hidden, allowed)
    assert recall(found, exact(indexed, rows, questions, seen)) >= 0.95
    for ranked in found:
        assert set(ranked.ids) <= set(seen.tolist())
        assert len(ranked.ids) == min(10, len(seen))
    one = nearest([stored], questions[0], 10, hidden, allowed)
    assert one.ids == found[0].ids


def exact(indexed, rows, questions, seen=None):
    _, stored = indexed
    plain = type(stored)(stored.ids, stored.stored, stored.about)
    return nearest_each([plain], questions, 10, NONE, seen)


def test_an_index_says_what_it_is_and_what_it_found(indexed):
    _, stored = indexed
    said = describe(json.dumps(dict(stored.about)).encode(), len(stored.ids))
    assert said.startswith(stored.about["kind"])
    assert "12,000 rows" in said
    assert said.endswith("asked for")
    assert stored.about["recall"] >= 0.95


def test_a_segment_of_release_0_1_still_opens(tmp_path):
    rows = clustered(20, 4)
    ids = np.array([5, 3, 9, *range(20, 37)])
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(DIMENSION))
    index.add_with_ids(rows, ids)
    old = {"vectors.faiss": faiss.serialize_index(index).tobytes()}
    opened = read(tmp_path, old, DIMENSION)
    assert opened.ids[:3].tolist() == [3, 5, 9]
    assert np.array_equal(opened.rows()[:3], rows[[1, 0, 2]])
    assert "release 0.1" in describe(None, 20)
    with pytest.raises(StoreDamaged, match="dimension 9"):
        read(tmp_path, old, 9)
    with pytest.raises(StoreDamaged, match="not a FAISS index"):
        read(tmp_path, {"vectors.faiss": b"IxMp nonsense"}, DIMENSION)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_files_that_do_not_fit_each_other_are_refused(tmp_path, kind):
    rows = clustered(400, 5)
    written(tmp_path, rows, kind=kind)
    whole = contents(tmp_path)
    for name in whole:
        if name.startswith("rows"):
            continue
        for wrong in (b"", whole[name][:-8], whole[name][: len(whole[name]) // 2 + 1]):
            with pytest.raises(StoreDamaged):
                read(tmp_path, {**whole, name: wrong}, DIMENSION)
        with pytest.raises(StoreDamaged):
            read(tmp_path, {other: whole[other] for other in whole if other != name}, DIMENSION)
    (tmp_path / "rows.f32").write_bytes(rows[:-1].tobytes())
    with pytest.raises(StoreDamaged):
        read(tmp_path, whole, DIMENSION)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_lists_with_a_position_beyond_the_rows_are_refused(tmp_path, kind):
    written(tmp_path, clustered(400, 5), kind=kind)
    whole = contents(tmp_path)
    members = np.frombuffer(whole["members.i32"], np.int32).copy()
    members[0] = 400
    with pytest.raises(StoreDamaged):
        read(tmp_path, {**whole, "members.i32": members.tobytes()}, DIMENSION)


@pytest.mark.parametrize(
    ("rows", "asked", "memory_gib", "device", "kind", "precision", "why"),
    [
        (100, {}, 8, "cpu", "flat", "float32", "milliseconds"),
        (49_999, {}, 8, "cpu", "flat", "float32", "milliseconds"),
        (50_000, {}, 8, "cpu", "hnsw", "float32", "recall 0.95"),
        (50_000, {"recall": 1.0}, 8, "cpu", "flat", "float32", "only the whole scan"),
        (50_000, {"kind": "flat"}, 8, "cpu", "flat", "float32", "asked for"),
        (100, {"kind": "hnsw"}, 8, "cpu", "hnsw", "float32", "asked for"),
        (100, {"kind": "ivf"}, 8, "cpu", "ivf", "float32", "asked for"),
        (100, {"precision": "float16"}, 8, "cpu", "flat", "float16", "milliseconds"),
        (2_000_000, {}, 8, "cpu", "hnsw", "float16", "a quarter of 8.0 GiB"),
        (10_000_000, {}, 8, "cpu", "ivf", "float16", "do not fit half"),
        (10_000_000, {"precision": "float32"}, 64, "cpu", "hnsw", "float32", "a graph of"),
        (1_000_000, {}, 40, "cuda", "flat", "float16", "a card scans"),
        (20_000_000, {}, 100, "cuda", "flat", "float16", "a card scans"),
        (30_000_000, {}, 100, "cuda", "cagra", "float32", "fits the card"),
        (60_000_000, {}, 100, "cuda", "ivf", "float16", "would not fit"),
        (30_000_000, {"recall": 1.0}, 100, "cuda", "flat", "float16", "a card scans"),
        (1_000_000, {"kind": "ivf"}, 100, "cuda", "ivf", "float16", "asked for"),
    ],
)
def test_the_choice_is_a_table(rows, asked, memory_gib, device, kind, precision, why):
    choice = choose(rows, 384, Wanted(**asked), memory_gib * GIB, device)
    assert (choice.kind, choice.precision) == (kind, precision)
    assert why in choice.why


def test_more_vectors_than_a_card_holds_are_refused_with_the_way_out():
    with pytest.raises(IndexOptionRefused, match="device cpu"):
        choose(10_000_000, 384, Wanted(), GIB, "cuda")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "magic"}, "magic"),
        ({"precision": "int4"}, "int4"),
        ({"recall": 2}, "0.5 to 1"),
        ({"recall": "much"}, "0.5 to 1"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, says):
    with pytest.raises(IndexOptionRefused, match=says):
        wanted(options)


def test_what_is_not_asked_for_has_a_default():
    assert wanted({"recall": 0.9}) == Wanted("auto", "auto", 0.9)
    assert json.loads(json.dumps(Wanted()._asdict()))["recall"] == 0.95
