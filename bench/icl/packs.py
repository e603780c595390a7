"""Data packs made ready: a pool without what the test items say, the test items, unit vectors of both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompts.demos import Pool
from prompts.listing import parse_lines, same_text
from prompts.records import Template
from prompts.seams import Embed
from prompts.templates import Library

LIBRARY = Path(__file__).parent / "library"
TEMPLATES = {
    "c-trec": "question-type@1",
    "c-subj": "subjectivity@1",
    "c-sst2": "sentiment@1",
    "c-agnews": "news-topic@1",
    "c-banking77": "bank-intent@1",
}
NEAR = 0.95  # cosine above which a demo says what a test item says
SEED = 7  # of the choice of items
LABEL_WEIGHT = 0.8  # as demos.label_weight


class Ready(NamedTuple):
    """A pack on disk, for processes to open."""

    name: str
    folder: Path
    items: int
    removed: int  # demos that say what a test item says
    pool: str  # digest of the demos that are left

    @property
    def gold(self) -> NDArray[np.int64]:
        """Columns of the template's labels."""
        items = json.loads((self.folder / "items.json").read_text())
        return np.array([item["gold"] for item in items], dtype=np.int64)


class Opened(NamedTuple):
    template: Template
    texts: tuple[str, ...]
    gold: NDArray[np.int64]  # columns of the template's labels
    pools: Mapping[str, Pool]  # by vectors: text, labels (by text and labels), own (another embedder's)
    vectors: Mapping[str, NDArray[np.float32]]  # of the texts, likewise


def template_of(pack: str) -> Template:
    return Library.load(LIBRARY).get(TEMPLATES[pack])


def make_ready(
    pack: Path, out: Path, items: int | None, rows: int | None, embed: Embed, own: Embed | None
) -> Ready:
    """Write the pack's pool, items and vectors below `out`.

    `items` and `rows` limit the test items and the pool, drawn once; None takes all. Rows whose label the
    template does not declare are left out of both parts. Demos that say the same as a test item, or nearly
    (cosine above NEAR), leave the pool, whichever items are drawn.
    """
    template = template_of(pack.name)
    assert template.labels is not None
    ids = [label.id for label in template.labels.labels]
    train, test = (_rows(pack / "dev" / f"{part}.jsonl", ids) for part in ("train", "test"))
    train = [train[at] for at in _drawn(len(train), rows)]
    vectors = {"text": embed([row["text"] for row in train])}
    asked = {"text": embed([row["text"] for row in test])}
    said = {same_text(row["text"]) for row in test}
    near = (vectors["text"] @ asked["text"].T).max(axis=1) > NEAR
    same = np.array([same_text(row["text"]) in said for row in train])
    demos = [
        {"id": row["id"], "input": row["text"], "output": row["label_name"], "label": row["label_name"]}
        for row in train
    ]
    lines = [json.dumps(demo) for demo, gone in zip(demos, near | same, strict=True) if not gone]
    listing = parse_lines(lines, pack.name)
    places = {demo["id"]: at for at, demo in enumerate(demos)}
    kept = [places[demo.id] for demo in listing.demos]
    drawn = _drawn(len(test), items)
    if own is not None:
        vectors["own"] = own([row["text"] for row in train])
        asked["own"] = own([row["text"] for row in test])
    folder = out / "ready" / pack.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "demos.jsonl").write_text("".join(f"{json.dumps(demos[at])}\n" for at in kept))
    chosen = [{"text": test[at]["text"], "gold": ids.index(test[at]["label_name"])} for at in drawn]
    (folder / "items.json").write_text(json.dumps(chosen))
    for name in vectors:
        np.savez(folder / f"{name}.npz", pool=vectors[name][kept], items=asked[name][drawn])
    return Ready(pack.name, folder, len(drawn), int((near | same).sum()), listing.digest)


def open_ready(name: str, folder: Path) -> Opened:
    """What `make_ready` wrote."""
    with (folder / "demos.jsonl").open(encoding="utf-8") as lines:
        listing = parse_lines(lines, name)
    items = json.loads((folder / "items.json").read_text())
    pools: dict[str, Pool] = {}
    vectors: dict[str, NDArray[np.float32]] = {}
    for kind in ("text", "own"):
        if not (folder / f"{kind}.npz").exists():
            continue
        both = np.load(folder / f"{kind}.npz")
        with_labels = "labels" if kind == "text" else kind
        pools[with_labels] = Pool(listing, vectors=both["pool"], label_weight=LABEL_WEIGHT)
        vectors[with_labels] = both["items"]
        if kind == "text":
            pools[kind], vectors[kind] = Pool(listing, vectors=both["pool"]), both["items"]
    return Opened(
        template=template_of(name),
        texts=tuple(item["text"] for item in items),
        gold=np.array([item["gold"] for item in items], dtype=np.int64),
        pools=pools,
        vectors=vectors,
    )


def _drawn(rows: int, most: int | None) -> NDArray[np.int64]:
    if most is None or most >= rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(SEED).permutation(rows)[:most])


def _rows(path: Path, labels: list[str]) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["label_name"] in labels]
