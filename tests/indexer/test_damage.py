"""Flipped, cut and lengthened files of a store: each is found before a parser sees it."""

import random
import re

import numpy as np
import pytest

from indexer.errors import StoreDamaged
from indexer.records import Segment
from indexer.segments import open_segment, stores_folder, write_segment

SEED = 20260
KINDS = ("flat", "hnsw", "ivf")
CASES = [pytest.param(40), pytest.param(334, marks=pytest.mark.slow)]  # of each kind of index


def written(data, kind):
    rows = np.random.default_rng(SEED).normal(size=(300, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = np.arange(300)
    texts = [f"duck number {row} swims on pond {row % 7}" for row in ids]
    about = {"index": {"kind": kind}}
    files = write_segment(stores_folder(data, "vs_1"), "seg_1", ids, rows, texts, about)
    return Segment(id="seg_1", store_id="vs_1", chunks=300, files=files)


def damaged(content, chance):
    """The content with one bit flipped, its end cut off, or something after it."""
    how = chance.choice(("flip", "cut", "lengthen")) if content else "lengthen"
    if how == "flip":
        at = chance.randrange(len(content))
        return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
    if how == "cut":
        return content[: chance.randrange(len(content))]
    return content + bytes(chance.randrange(1, 64))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cases", CASES)
def test_every_damaged_file_is_named_and_the_whole_one_opens_again(tmp_path, kind, cases):
    chance = random.Random(SEED)
    segment = written(tmp_path, kind)
    folder = stores_folder(tmp_path, "vs_1") / "seg_1"
    for _ in range(cases):
        name = chance.choice(sorted(segment.files))
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(damaged(whole, chance))
        # Where this fails: the damage that was not seen is that of this case of the seed.
        with pytest.raises(StoreDamaged, match=re.escape(name)):
            open_segment(tmp_path, segment, 16)
        (folder / name).write_bytes(whole)
    assert len(open_segment(tmp_path, segment, 16).vectors.ids) == 300
