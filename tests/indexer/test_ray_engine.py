"""Ingest on a real cluster of two nodes, in a process of its own: Ray brings threads and warnings."""

import importlib.util
import json
import subprocess
import sys

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.commands.ingest import ingest
from indexer.verification import findings

CODE = """
import os, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
os.environ["RAY_ADDRESS"] = cluster.address
try:
    from indexer.commands.ingest import ingest
    ingest()
finally:
    cluster.shutdown()
"""


def test_without_ray_it_says_what_to_install(folder, data, monkeypatch):
    (folder / "a.txt").write_text("Ducks swim.")
    monkeypatch.setitem(sys.modules, "ray", None)
    options = ["--store", "docs", "--data", str(data), "--embedder", "hash", "--engine", "ray"]
    result = CliRunner().invoke(ingest, [str(folder), *options])
    assert result.exit_code == 1
    assert "pip install 'fewshot[ray]'" in result.output


@pytest.mark.parametrize("options", [["--engine", "ray", "--devices", "cpu"], ["--workers", "2"]])
def test_an_option_of_the_other_engine_is_refused(folder, data, options):
    result = CliRunner().invoke(ingest, [str(folder), "--store", "docs", "--data", str(data), *options])
    assert result.exit_code == 2
    assert options[-2] in result.output


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="pip install 'fewshot[ray]'")
def test_two_nodes_make_the_store_that_one_process_makes(folder, tmp_path):
    rows = ({"id": str(n), "text": f"ducks number {n} " * (n % 30 + 1)} for n in range(700))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "page.html").write_text("<h1>Geese</h1><p>Geese fly south.</p>")
    (folder / "again.html").write_text("<h1>Geese</h1><p>Geese fly south.</p>")
    (folder / "bad.pdf").write_bytes(b"%PDF-1.4 nothing else")
    options = ["--store", "docs", "--embedder", "hash"]
    spread = [str(folder), *options, "--data", str(tmp_path / "spread"), "--engine", "ray"]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *spread], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 1, done.stderr[-2000:]  # of the damaged file
    assert "error: bad.pdf" in done.stderr
    assert "Traceback" not in done.stderr
    alone = CliRunner().invoke(ingest, [str(folder), *options, "--data", str(tmp_path / "alone")])
    assert alone.exit_code == 1
    assert _content(tmp_path / "spread") == _content(tmp_path / "alone")


def _content(data):
    """Everything a store says but keys and times, with each chunk's vector."""
    catalogue = Catalogue(data)
    store = catalogue.store("docs")
    assert list(findings(catalogue, store)) == []
    files, documents, chunks = schema.files, schema.documents, schema.chunks
    with catalogue.engine.connect() as connection:
        rows = connection.execute(
            sa.select(
                files.c.source, documents.c.key, documents.c.sha256,
                chunks.c.id, chunks.c.text, chunks.c.char_start, chunks.c.char_end,
            )
            .select_from(chunks)
            .join(documents, documents.c.id == chunks.c.document_id)
            .join(files, files.c.id == documents.c.file_id)
            .where(chunks.c.died.is_(None))
            .order_by(chunks.c.id)
        ).all()  # fmt: skip
        states = connection.execute(
            sa.select(files.c.source, files.c.sha256, files.c.state, files.c.chunks).order_by(files.c.source)
        ).all()
    catalogue.close()
    return [tuple(row) for row in rows], [tuple(row) for row in states]
