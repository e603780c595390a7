"""The commands as people and scripts use them."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from indexer.commands.ingest import ingest
from indexer.commands.search import search
from indexer.commands.stores import stores
from indexer.commands.verify import verify


@pytest.fixture
def call(data):
    """Run a command on the test's data folder with the hash embedder."""

    def run(command, *arguments: str):
        extra = ["--embedder", "hash"] if command in (ingest, search) else []
        return CliRunner().invoke(command, [*arguments, "--data", str(data), *extra])

    return run


def test_ingest_search_stores_verify(call, folder):
    (folder / "ducks.md").write_text("# Ducks\n\nDucks swim.")
    (folder / "empty.txt").write_text("")
    result = call(ingest, str(folder), "--store", "docs")
    assert result.exit_code == 1
    assert "generation 1: 1 documents, 1 chunks published" in result.stdout
    assert "error: empty.txt: an empty file" in result.stderr
    found = json.loads(call(search, "swim", "--store", "docs", "--json").stdout)
    assert found["hits"][0]["filename"] == "ducks.md"
    assert "Ducks (ducks.md)" in call(search, "swim", "--store", "docs").stdout
    assert "1 documents, 1 chunks from 1 files, 1 files failed" in call(stores).stdout
    assert json.loads(call(stores, "--json").stdout)[0]["name"] == "docs"
    assert call(verify).exit_code == 0


def test_a_clean_second_run_exits_0_and_adds_nothing(call, folder):
    (folder / "a.txt").write_text("text")
    assert call(ingest, str(folder), "--store", "docs").exit_code == 0
    again = call(ingest, str(folder), "--store", "docs")
    assert again.exit_code == 0
    assert "0 documents, 0 chunks added to 'docs'; 1 files unchanged" in again.stdout


def test_a_search_can_be_filtered_capped_and_spread(call, folder):
    rows = [{"id": f"d{n}", "text": f"ducks swim {'often ' * n}", "year": 2018 + n} for n in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    call(ingest, str(folder), "--store", "docs")

    def found(*options: str) -> list[str]:
        result = call(search, "ducks", "--store", "docs", "--json", *options)
        assert result.exit_code == 0, result.output
        return sorted(hit["external_id"] for hit in json.loads(result.stdout)["hits"])

    assert found("--filter", "year >= 2022") == ["d4", "d5"]
    assert found("--filter", "year >= 2020", "--filter", "year != 2021") == ["d2", "d4", "d5"]
    assert found("--filter", '{"type": "in", "key": "year", "value": [2018]}') == ["d0"]
    assert len(found("--mmr", "0.5", "--per-file", "1", "--lean", "0.2")) == 6
    assert found("--threshold", "1") == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--filter", "year"], "--filter[0] 'year' is no filter: write KEY = VALUE"),
        (["--filter", "a = 1", "--filter", '{"type": "like"}'], "--filter[1].type must be one of eq"),
        (
            ["--filter", "n = many"],
            "--filter[0].value compares 'n', which holds number values, with a string",
        ),
        (["--rerank"], "no reranker is set up"),
        (["--rerank", "--reranker", "/no/such"], "no readable config.json"),
        (["--mmr", "2"], "0<=x<=1"),
    ],
)
def test_what_a_search_cannot_do_it_says(call, folder, options, said):
    (folder / "rows.jsonl").write_text('{"id": "a", "text": "ducks", "n": 1}\n')
    call(ingest, str(folder), "--store", "docs")
    result = call(search, "ducks", "--store", "docs", *options)
    assert result.exit_code in (1, 2)
    assert said in result.stderr


def test_refusals_name_the_way_out(call, folder):
    assert call(ingest, str(folder / "gone"), "--store", "docs").exit_code == 1
    assert "fewshot stores" in call(search, "x", "--store", "nowhere").stderr
    missing = CliRunner().invoke(
        ingest, [str(folder), "--store", "d", "--embedder", "./none", "--data", str(folder)]
    )
    assert "fewshot models fetch" in missing.stderr


def test_show_says_which_index_each_segment_has_and_why(call, folder):
    (folder / "a.txt").write_text("text")
    call(ingest, str(folder), "--store", "docs")
    assert (
        "index flat float32, 1 rows: 1 rows are scanned whole in milliseconds"
        in call(stores, "show", "docs").stdout
    )


def test_damage_makes_verify_exit_1(call, folder, data):
    (folder / "a.txt").write_text("text")
    call(ingest, str(folder), "--store", "docs")
    [path] = data.glob("stores/*/*/rows.f32")
    path.write_bytes(b"")
    result = call(verify)
    assert result.exit_code == 1
    assert "rows.f32 is not what was published" in result.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys, indexer.commands.ingest as c; c.ingest.main(['--help'], standalone_mode=False); "
        "print([m for m in ('torch', 'faiss', 'tantivy', 'sqlalchemy', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_the_index_of_a_store_is_asked_for_and_followed_by_what_is_written_next(call, folder):
    (folder / "a.txt").write_text("first")
    call(ingest, str(folder), "--store", "docs")
    assert "kind auto, precision auto, recall 0.95" in call(stores, "index", "docs").stdout
    asked = call(stores, "index", "docs", "--precision", "float16", "--recall", "0.99")
    assert "kind auto, precision float16, recall 0.99" in asked.stdout
    (folder / "b.txt").write_text("second")
    call(ingest, str(folder), "--store", "docs")
    shown = call(stores, "show", "docs").stdout
    assert "float32" in shown
    assert "float16" in shown


def test_index_options_that_do_not_go_together_change_nothing(call, folder):
    (folder / "a.txt").write_text("first")
    call(ingest, str(folder), "--store", "docs")
    refused = call(stores, "index", "docs", "--kind", "milvus")
    assert refused.exit_code == 1
    assert "uri" in refused.stderr
    assert "kind auto" in call(stores, "index", "docs").stdout
    assert call(stores, "index", "docs", "--kind", "milvus", "--uri", "http://milvus:19530").exit_code == 0
    assert (
        "kind flat, precision auto, recall 0.95\n" in call(stores, "index", "docs", "--kind", "flat").stdout
    )
