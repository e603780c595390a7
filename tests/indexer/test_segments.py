"""What is checked when a segment is opened, and when."""

import numpy as np
import pytest

from indexer.errors import IndexOptionRefused, StoreDamaged
from indexer.records import Segment
from indexer.segments import LARGE_BYTES, describe_index, open_segment, stores_folder, write_segment

DIMENSION = 256


def published(data, many, **index):
    rows = np.random.default_rng(0).normal(size=(many, DIMENSION)).astype(np.float32)
    about = {"index": index}
    files = write_segment(stores_folder(data, "vs_a"), "seg", np.arange(many), rows, ["words"] * many, about)
    return Segment("seg", "vs_a", many, files), stores_folder(data, "vs_a") / "seg"


def flip(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_every_small_file_is_hashed_before_it_is_read(tmp_path):
    segment, folder = published(tmp_path, 50)
    for name in segment.files:
        flip(folder / name, 0)
        with pytest.raises(StoreDamaged, match="is not what was published"):
            open_segment(tmp_path, segment, DIMENSION)
        flip(folder / name, 0)
    assert len(open_segment(tmp_path, segment, DIMENSION).vectors.ids) == 50


def test_large_rows_are_mapped_without_hashing_unless_asked(tmp_path):
    many = LARGE_BYTES // (4 * DIMENSION) + 1
    segment, folder = published(tmp_path, many, kind="flat")
    flip(folder / "rows.f32", 4000)
    assert len(open_segment(tmp_path, segment, DIMENSION).vectors.stored) == many
    with pytest.raises(StoreDamaged, match=r"rows\.f32 is not what was published"):
        open_segment(tmp_path, segment, DIMENSION, thorough=True)
    flip(folder / "rows.f32", 4000)
    open_segment(tmp_path, segment, DIMENSION, thorough=True)
    with (folder / "rows.f32").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(StoreDamaged, match=r"rows\.f32 is not what was published"):
        open_segment(tmp_path, segment, DIMENSION)


def test_mapped_rows_outlive_their_folder(tmp_path):
    segment, folder = published(tmp_path, 60)
    opened = open_segment(tmp_path, segment, DIMENSION)
    before = opened.vectors.rows()
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    assert np.array_equal(opened.vectors.rows(), before)


def test_a_store_can_ask_for_an_index_and_see_what_it_got(tmp_path):
    segment, _ = published(tmp_path, 500, kind="ivf", precision="float16")
    assert describe_index(tmp_path, segment).startswith("ivf float16, 500 rows, lists 12, probes ")
    old = Segment("seg", "vs_a", 500, {})
    assert describe_index(tmp_path, old).endswith("written by release 0.1")


def test_an_index_that_does_not_exist_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(IndexOptionRefused, match="magic"):
        published(tmp_path, 5, kind="magic")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
