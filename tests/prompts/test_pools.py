"""Pools as folders: what gets in, what stays out and why, versions that never change."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.hash_embedder import HashEmbedder
from prompts.errors import PoolInvalid
from prompts.pools import NEAR, build_pool, gate_of, open_pool, read_manifest, versions

EMBEDDER = HashEmbedder()


def line(at, text, label="a", **more):
    return json.dumps({"id": at, "input": text, "output": label, "label": label, **more})


def from_unit(unit, kind="authored"):
    return {"provenance": {"unit": unit, "kind": kind}}


def build(folder, lines, **options):
    known = {"embed": EMBEDDER.passages, "embedder": "e", **options}
    return build_pool(lines, folder, "routing", **known)


APART = [f"{word} {word}{word}" for word in ("money", "parcel", "login", "invoice", "street", "colour")]


def test_a_pool_is_built_opened_and_numbered(tmp_path):
    first = build(tmp_path, [line(f"d{at}", text) for at, text in enumerate(APART)])
    assert (first.manifest.reference, first.manifest.parent, first.fresh) == ("routing@1", None, True)
    assert first.manifest.labels == {"a": 6}
    again = build(tmp_path, [line(f"d{at}", text) for at, text in enumerate(APART)])
    assert (again.fresh, again.folder) == (False, first.folder)
    second = build(tmp_path, [line("x", "something else"), line("y", "quite another thing")])
    assert (second.manifest.version, second.manifest.parent) == (2, "routing@1")
    assert versions(tmp_path, "routing") == [1, 2]
    pool = open_pool(first.folder, embed=EMBEDDER.passages, embedder="e")
    assert [demo.id for demo in pool.demos] == [f"d{at}" for at in range(6)]
    assert pool.digest == first.manifest.digest
    assert not [path for path in (tmp_path / "routing").iterdir() if path.name.startswith(".")]


def test_what_stays_out_is_named_with_its_reason(tmp_path):
    lines = [
        line("twin-fed", "Two payments left my account", "billing", provenance={"kind": "feedback"}),
        line("twin", "two payments left my account !", "billing", provenance={"kind": "authored"}),
        line("again", "TWO payments left my account", "billing"),
        line("held", "Where is my parcel today"),
        line("red", "please reset my password now", "access"),
        line("blue", "Please reset my password now.", "billing"),
        *(line(f"u{at}", text, "other", **from_unit("kim")) for at, text in enumerate(APART)),
    ]
    built = build(tmp_path, lines, forbidden=["where is my parcel, today?"], per_unit=4)
    reasons = {one.id: (one.reason, one.because) for one in built.left}
    assert reasons["again"] == ("duplicate", "") or reasons["twin"] == ("duplicate", "")
    assert reasons["held"] == ("forbidden", "")
    assert reasons["red"] == ("near_another_label", "blue")
    assert reasons["blue"] == ("near_another_label", "red")
    assert {name for name, (reason, _) in reasons.items() if reason == "unit_cap"} == {"u4", "u5"}
    assert built.manifest.left["unit_cap"] == 2
    assert sum(built.manifest.left.values()) + built.manifest.demos == len(lines)


def test_the_better_proven_of_near_twins_stays(tmp_path):
    vectors = {"a b": [1.0, 0.0], "a c": [0.999, (1 - 0.999**2) ** 0.5], "z": [0.0, 1.0]}

    def embed(texts):
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    lines = [
        line("fed", "a b", provenance={"kind": "feedback"}),
        line("own", "a c", provenance={"kind": "authored"}),
        line("far", "z"),
    ]
    built = build(tmp_path, lines, embed=embed)
    assert [(one.id, one.reason, one.because) for one in built.left] == [("fed", "near_duplicate", "own")]
    near = build(tmp_path, lines[:1] + lines[2:], embed=embed, forbidden=["a c"])
    assert [(one.id, one.reason) for one in near.left] == [("fed", "forbidden")]


def test_an_edited_pool_is_refused_and_another_embedder_embeds_anew(tmp_path):
    built = build(tmp_path, [line(f"d{at}", text) for at, text in enumerate(APART)])
    asked = []

    def other(texts):
        asked.append(len(texts))
        return EMBEDDER.passages(texts)

    open_pool(built.folder, embed=other, embedder="e")
    assert asked == []
    cache = tmp_path / "cache"
    open_pool(built.folder, embed=other, embedder="another", cache=cache)
    open_pool(built.folder, embed=other, embedder="another", cache=cache)
    assert asked == [6]
    demos = built.folder / "demos.jsonl"
    demos.write_text(demos.read_text().replace("money", "honey"))
    with pytest.raises(PoolInvalid, match="edited"):
        open_pool(built.folder, embed=other, embedder="e")
    (built.folder / "manifest.json").write_text("{}")
    with pytest.raises(PoolInvalid, match=r"manifest\.json"):
        read_manifest(built.folder)


@pytest.mark.parametrize(
    ("lines", "name", "says"),
    [
        (["{"], "routing", "line 1"),
        ([], "routing", "no demonstration"),
        ([line("a", "x")], "Bad Name", "name"),
    ],
)
def test_what_is_no_pool_is_refused(tmp_path, lines, name, says):
    with pytest.raises(PoolInvalid, match=says):
        build_pool(lines, tmp_path, name, embed=EMBEDDER.passages, embedder="e")
    assert versions(tmp_path, name) == []


unit_rows = st.lists(st.lists(st.floats(-1, 1), min_size=3, max_size=3), min_size=2, max_size=12)


@given(unit_rows)
def test_the_gate_is_the_quantile_of_the_distance_to_the_next(rows):
    vectors = np.array(rows) + 1e-3
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    assert gate_of(vectors) == pytest.approx(np.quantile(1 - cosines.max(axis=1), 0.95), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab"), st.sampled_from("xyz")), max_size=25))
def test_no_two_of_a_pool_say_the_same_and_no_cap_is_passed(tmp_path_factory, rows):
    words = [f"{APART[kind % 6]} {kind // 6}" for kind, _, _ in rows]
    lines = [
        line(str(at), f"{word} {'!' * (at % 3)}", label, **from_unit(unit))
        for at, (word, (_, label, unit)) in enumerate(zip(words, rows, strict=True))
    ]
    folder = tmp_path_factory.mktemp("pools")
    try:
        built = build(folder, lines, per_label=3, per_unit=2, forbidden=[APART[0] + " 0"])
    except PoolInvalid:
        assert versions(folder, "routing") == []
        return
    pool = open_pool(built.folder, embed=EMBEDDER.passages, embedder="e")
    vectors = EMBEDDER.passages([demo.input for demo in pool.demos])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, 0)
    assert cosines.max() <= NEAR
    assert all(not demo.input.startswith(f"{APART[0]} 0") for demo in pool.demos)
    for kind, most in (("label", 3), ("unit", 2)):
        values = [getattr(demo, kind) for demo in pool.demos]
        assert all(values.count(value) <= most for value in values)
    assert len(pool.demos) + len(built.left) == len(lines)
