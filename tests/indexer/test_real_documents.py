"""Documents nobody here wrote. FEWSHOT_TEST_DATA names the folder of packs, unpacked or *.tar.xz."""

import os
import re
import tarfile
import time
from collections import Counter
from pathlib import Path

import pytest

from indexer.catalogue import Catalogue
from indexer.errors import NoText
from indexer.hash_embedder import HashEmbedder
from indexer.ingest import ingest
from indexer.sandbox import Sandbox
from indexer.splitting import Splitting
from indexer.verification import findings
from tests.indexer.conftest import Watching

pytestmark = pytest.mark.slow
SCAN = "testOCR.pdf"
MENU_ENTRY = re.compile(r"\s*- (\[[^\]]*\]\(\S*\)\s*)+\S{0,10}")  # a list item of nothing but links
LONGEST_SECONDS = 10
LEAST_RECALL = 0.95


def unpacked(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pack; skips where there is none."""
    given = os.environ.get("FEWSHOT_TEST_DATA")
    if not given:
        pytest.skip("FEWSHOT_TEST_DATA is not set")
    packed, folder = Path(given, f"{name}.tar.xz"), Path(given, name)
    if packed.exists() and not folder.exists():
        folder = tmp_path_factory.mktemp("packs")
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        folder /= name
    if not folder.exists():
        pytest.skip(f"no {name} in {given}")
    return folder / "dev"


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> Path:
    return unpacked("e-documents", tmp_path_factory)


@pytest.fixture(scope="module")
def sandbox():
    made = Sandbox()
    made(b"warm up", "a.txt")
    yield made
    made.close()


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[^\W_]+", re.sub(r"[\\*_`#|>\-\[\]()!~]", " ", text).lower()))


def reference(gold: Path) -> str:
    """The reference extraction; of a web page without its menus, which are left out on purpose."""
    lines = gold.read_text().splitlines()
    if gold.name.endswith(".html.md"):
        lines = [line for line in lines if not MENU_ENTRY.fullmatch(line)]
    return "\n".join(lines)


def test_every_good_file_has_usable_text(documents, sandbox):
    files = [*documents.glob("good/*"), *documents.glob("docs-tree/**/*.md")]
    seen = 0
    for path in files:
        if path.name == SCAN:
            continue
        reading = sandbox(path.read_bytes(), path.name)
        text = "".join(document.text for document in reading.documents)
        assert reading.errors == (), path.name
        assert len(text.split()) >= 3, path.name
        assert text.count("\ufffd") <= len(text) / 200, path.name
        gold = documents / "gold" / f"{path.name}.md"
        if gold.exists():
            wanted, found = words(reference(gold)), words(text)
            recall = sum((wanted & found).values()) / wanted.total()
            assert recall >= LEAST_RECALL, path.name
        seen += 1
    assert seen >= 30


def test_manuals_in_two_languages_are_read_with_their_headings(tmp_path_factory, sandbox):
    folder = unpacked("e-debian-docs", tmp_path_factory)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        reading = sandbox(path.read_bytes(), path.name)
        [document] = reading.documents
        assert (reading.errors, reading.warnings) == ((), ()), path.name
        assert document.title, path.name
        assert len(document.text) > 1000, path.name
        assert "\ufffd" not in document.text, path.name
        headings = {section.headings for section in document.sections}
        assert len(headings) > 2 or path.name.startswith("index."), path.name
        if path.suffix == ".pdf":
            assert len({section.page for section in document.sections}) > 50
    assert len(files) >= 60


def test_a_scan_is_refused_with_the_way_out(documents, sandbox):
    with pytest.raises(NoText, match="run OCR over it first"):
        sandbox((documents / "good" / SCAN).read_bytes(), SCAN)


def test_every_hostile_file_is_reported_by_name_and_none_takes_long(documents, tmp_path):
    catalogue, sandbox, watch = Catalogue(tmp_path), Sandbox(), Watching()
    try:
        for path in sorted(documents.glob("hostile/*")):
            began = time.monotonic()
            summary = ingest(catalogue, "h", [path], HashEmbedder(), sandbox, Splitting(), watch)
            assert time.monotonic() - began < LONGEST_SECONDS, path.name
            reported = {problem.name for problem in (*summary.errors, *summary.warnings)}
            assert reported == {path.name}
        assert list(findings(catalogue, catalogue.store("h"))) == []
    finally:
        sandbox.close()
        catalogue.close()
