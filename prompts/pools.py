"""Pools as folders, `<name>/<version>/`: built once, checked on the way in, never changed after.

demos.jsonl     the worked examples that were kept
vectors.npy     unit rows of their inputs, float32, shape (n, d)
manifest.json   written last: what they are, what was left out and why, the pool's own gate
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prompts.checks import NAME
from prompts.demos import Pool
from prompts.errors import PoolInvalid
from prompts.listing import Listing, parse_lines, same_text
from prompts.records import Demo
from prompts.seams import Embed
from prompts.vectors import checked, saved, vectors_of

FORMAT = 1
DEMOS, VECTORS, MANIFEST = "demos.jsonl", "vectors.npy", "manifest.json"
NEAR = 0.95  # cosine above which two inputs say the same
PER_UNIT = 5
GATE = 0.95  # the quantile of the distance to the next demo that is the pool's gate
PROVEN = ("authored", "dataset", "correction", "feedback", "bootstrap")  # the better proven first
_BLOCK = 1024  # rows of cosines at a time

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Left:
    """A line that is not in the pool."""

    id: str
    reason: str  # duplicate | forbidden | near_duplicate | near_another_label | label_cap | unit_cap
    because: str = ""  # id of the demo it gave way to, or the label or unit that was full


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a pool's folder says of itself."""

    name: str
    version: int
    digest: str  # of the demos, as `prompts.listing` makes it
    parent: str | None  # name@version
    demos: int
    labels: dict[str, int]  # demos without a label are not counted
    embedder: str  # digest of the embedding model
    max_distance: float | None  # the gate (1 − cosine); None for fewer than two demos
    forbidden: str | None  # digest of the inputs that may not be in it
    left: dict[str, int]  # reason → lines
    format: int = FORMAT

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Built:
    manifest: Manifest
    folder: Path
    left: tuple[Left, ...]
    fresh: bool  # False: the newest version held exactly this already


def build_pool(
    lines: Iterable[str],
    pools: Path,
    name: str,
    *,
    embed: Embed,
    embedder: str,
    forbidden: Sequence[str] = (),
    per_label: int | None = None,
    per_unit: int = PER_UNIT,
    where: str = "lines",
) -> Built:
    """Write the next version of the pool `name` below `pools`, of JSONL lines.

    `forbidden` are the inputs of all items kept for judging: none of them gets in, nor what comes near
    (cosine above NEAR). Of demos that say the same the better proven stays; when their labels differ none
    does, and both are among `left` to be looked at. Raises PoolInvalid for lines that break the format, for
    a name that is none, and when nothing is left.
    """
    if not NAME.fullmatch(name):
        raise PoolInvalid(name, ["a pool's name must be lower-case words joined by hyphens"])
    given = list(lines)
    listing = parse_lines(given, where)
    vectors = checked(
        np.asarray(embed([demo.input for demo in listing.demos]), np.float32), len(listing.demos)
    )
    left = [Left(duplicate, "duplicate") for duplicate in listing.duplicates]
    rows, gone = _kept(
        listing, _kinds(given), vectors, _unit_rows(embed, forbidden), forbidden, per_label, per_unit
    )
    left += gone
    if not rows:
        raise PoolInvalid(
            where, ["no demonstration is left", *(f"{one.id}: {one.reason}" for one in left[:10])]
        )
    texts = {json.loads(line)["id"]: line.strip() for line in given if line.strip()}
    kept = parse_lines([texts[listing.demos[at].id] for at in rows], where)
    newest = max(versions(pools, name), default=0)
    parent = read_manifest(pools / name / str(newest)) if newest else None
    said = _digest(forbidden) if forbidden else None
    manifest = Manifest(
        name=name,
        version=newest + 1,
        digest=kept.digest,
        parent=parent.reference if parent else None,
        demos=len(rows),
        labels=dict(sorted(Counter(demo.label for demo in kept.demos if demo.label is not None).items())),
        embedder=embedder,
        max_distance=gate_of(vectors[rows]),
        forbidden=said,
        left=dict(sorted(Counter(one.reason for one in left).items())),
    )
    if parent and (parent.digest, parent.embedder, parent.forbidden) == (kept.digest, embedder, said):
        return Built(parent, pools / name / str(newest), tuple(left), fresh=False)
    folder = pools / name / str(manifest.version)
    _publish(folder, [texts[demo.id] for demo in kept.demos], vectors[rows], manifest)
    return Built(manifest, folder, tuple(left), fresh=True)


def open_pool(
    folder: Path, *, embed: Embed, embedder: str, cache: Path | None = None, label_weight: float = 0.0
) -> Pool:
    """The pool in a folder, with its own gate. Another embedder than it was built with embeds it anew.

    Raises PoolInvalid when its demos are not those that were built.
    """
    manifest = read_manifest(folder)
    with (folder / DEMOS).open(encoding="utf-8") as lines:
        listing = parse_lines(lines, str(folder))
    if listing.digest != manifest.digest:
        raise PoolInvalid(
            str(folder), ["its demos were edited after it was built: build the next version instead"]
        )
    if manifest.embedder == embedder:
        own = np.load(folder / VECTORS, allow_pickle=False)
        vectors, gate = checked(own, len(listing.demos)), manifest.max_distance
    else:
        beside = (cache or folder) / "demos.vectors"
        vectors = vectors_of(listing.demos, listing.digest, embed=embed, embedder=embedder, beside=beside)
        gate = gate_of(vectors)
    return Pool(listing, vectors=vectors, embed=embed, label_weight=label_weight, max_distance=gate)


def read_manifest(folder: Path) -> Manifest:
    """Raises PoolInvalid for a folder without a readable manifest."""
    try:
        said: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**said)
    except (OSError, ValueError, TypeError) as error:
        raise PoolInvalid(str(folder), [f"{MANIFEST} cannot be read ({type(error).__name__})"]) from error
    if manifest.format != FORMAT:
        raise PoolInvalid(str(folder), [f"it is of format {manifest.format}; this release reads {FORMAT}"])
    return manifest


def versions(pools: Path, name: str) -> list[int]:
    """Those that are complete, ascending."""
    found = (pools / name).glob(f"*/{MANIFEST}")
    return sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal())


def gate_of(vectors: Vectors) -> float | None:
    """max_distance = q95_i (1 − max_{j≠i} cos(e_i, e_j)); None for fewer than two rows."""
    if len(vectors) < 2:
        return None
    nearest = np.empty(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
        nearest[start : start + _BLOCK] = 1 - cosines.max(axis=1)
    return float(np.quantile(nearest, GATE))


def _kept(
    listing: Listing,
    kinds: dict[str, str],
    vectors: Vectors,
    closed: Vectors,
    forbidden: Sequence[str],
    per_label: int | None,
    per_unit: int,
) -> tuple[list[int], list[Left]]:
    """Rows that get in, in their order, and what does not."""
    demos, said = listing.demos, {same_text(text) for text in forbidden}
    left: dict[int, Left] = {}
    for at, demo in enumerate(demos):
        if same_text(demo.input) in said or (len(closed) and (closed @ vectors[at]).max() > NEAR):
            left[at] = Left(demo.id, "forbidden")
    near = {at: rows for at, rows in _near(vectors).items() if at not in left}
    for at, rows in near.items():
        for other in rows:
            stands = other not in left or left[other].reason == "near_another_label"
            if stands and _answer(demos[at]) != _answer(demos[other]):
                left[at] = Left(demos[at].id, "near_another_label", demos[other].id)
    labels, units = Counter[str | None](), Counter[str | None]()
    taken: set[int] = set()
    for at in sorted(set(range(len(demos))) - left.keys(), key=lambda one: (_proof(kinds, demos[one]), one)):
        demo = demos[at]
        twin = next((other for other in near.get(at, ()) if other in taken), None)
        if twin is not None:
            left[at] = Left(demo.id, "near_duplicate", demos[twin].id)
        elif per_label is not None and demo.label is not None and labels[demo.label] >= per_label:
            left[at] = Left(demo.id, "label_cap", demo.label)
        elif demo.unit is not None and units[demo.unit] >= per_unit:
            left[at] = Left(demo.id, "unit_cap", demo.unit)
        else:
            taken.add(at)
            labels[demo.label] += 1
            units[demo.unit] += 1
    return sorted(taken), [left[at] for at in sorted(left)]


def _near(vectors: Vectors) -> dict[int, list[int]]:
    """Rows → the other rows whose cosine is above NEAR, for those that have any."""
    found: dict[int, list[int]] = {}
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors.T
        for at, other in zip(*np.nonzero(cosines > NEAR), strict=True):
            if start + at != other:
                found.setdefault(int(start + at), []).append(int(other))
    return found


def _answer(demo: Demo) -> str:
    return demo.output if demo.label is None else demo.label


def _proof(kinds: dict[str, str], demo: Demo) -> int:
    kind = kinds.get(demo.id, "authored")
    return PROVEN.index(kind) if kind in PROVEN else len(PROVEN)


def _kinds(lines: Iterable[str]) -> dict[str, str]:
    """Where each demo comes from, by its provenance."""
    rows = [json.loads(line) for line in lines if line.strip()]
    return {row["id"]: str((row.get("provenance") or {}).get("kind", "authored")) for row in rows}


def _unit_rows(embed: Embed, texts: Sequence[str]) -> Vectors:
    if not texts:
        return np.empty((0, 0), dtype=np.float32)
    return checked(np.asarray(embed(list(texts)), dtype=np.float32), len(texts))


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted({same_text(text) for text in texts})).encode()).hexdigest()


def _publish(folder: Path, lines: Sequence[str], vectors: Vectors, manifest: Manifest) -> None:
    """Written beside, the manifest last, then renamed: a folder under its name is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (draft / DEMOS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (draft / VECTORS).write_bytes(saved(vectors))
        (draft / MANIFEST).write_text(
            json.dumps(asdict(manifest), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        os.chmod(draft, 0o755)
        draft.rename(folder)
    except OSError as error:
        if folder.exists():
            raise PoolInvalid(str(folder), ["another build was faster: build again"]) from error
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
