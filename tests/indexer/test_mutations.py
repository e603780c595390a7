"""Damage of any kind: a reader may refuse, but never crash, hang or grow the process that asks it."""

import os
from pathlib import Path

import pytest

from bench.mutations import PLAIN, ZIPPED, good_files, mutated, run
from tests.indexer.documents import doc, docx, epub, odf, pdf, pptx, xlsx, zipped

MOST_GROWTH_MIB = 100
MADE = {
    "a.pdf": pdf("one page", "another page", title="T"),
    "a.doc": doc("Some words.\r", "More of them.\r"),
    "a.docx": docx("First.", "Second."),
    "a.pptx": pptx(("Plan", "First we count", "say hello"), ("End", "Thanks", "")),
    "a.xlsx": xlsx([["city", "sold"], ["Bonn", 12.0], ["Trier", 7.5]]),
    "a.odt": odf("<text:h>Start</text:h><text:p>Words<text:s/>here.</text:p>"),
    "a.odp": odf("<draw:page><draw:frame><text:p>slide</text:p></draw:frame></draw:page>", "presentation"),
    "a.epub": epub("<h1>Dawn</h1><p>Light.</p>", "<p>More.</p>", title="Days"),
    "a.zip": zipped(**{"a.md": b"# Head\n\ntext", "b.csv": b"a,b\n1,2\n"}),
    "a.rtf": rb"{\rtf1\ansi{\info{\title T}}{\b Words}\par more\'e9 words}",
    "a.html": b"<html><body><main><h1>H</h1><table><tr><td>a</td><td>b</td></tr></table></main></body>",
    "a.xml": b"<article><title>T</title><sec><title>S</title><p>words <i>here</i></p></sec></article>",
    "a.eml": b"From: a@b\nTo: c@d\nSubject: s\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\nhi\n--B--",
    "a.json": b'{"a": {"b": [1, 2, {"c": "d"}]}}',
    "a.jsonl": b'{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n',
    "a.csv": b"name,age\nAda,36\nBob,40\n",
    "a.md": b"# One\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```\n",
    "a.txt": "Wörter und Sätze. ".encode("utf-16"),
}


def check(files: dict[str, bytes], count: int, seed: int) -> None:
    tally = run(files, iter(range(seed, seed + count)), lambda _: None)
    assert tally.wrong == []
    assert tally.outcomes.total() == count
    assert tally.grown_mib < MOST_GROWTH_MIB


def test_the_same_seed_is_the_same_damage():
    assert [mutated(seed, MADE) for seed in range(50)] == [mutated(seed, MADE) for seed in range(50)]
    ways = {mutated(seed, MADE)[1] for seed in range(500)}
    assert ways == {way.__name__ for way in (*PLAIN, *ZIPPED)}


def test_damaged_files_of_every_format_are_refused_or_read():
    check(MADE, 200, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_thousand_damaged_files_are_refused_or_read():
    given = os.environ.get("FEWSHOT_TEST_DATA")
    if not given or not Path(given, "e-documents").is_dir():
        pytest.skip("FEWSHOT_TEST_DATA names no folder with e-documents unpacked")
    check(good_files(Path(given)), 10_000, seed=1)
