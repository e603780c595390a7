"""What /openapi.json says, held against what the server does, by schemathesis in all its phases."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from indexer.hash_embedder import HashEmbedder
from server.keys import SCOPES
from server.wire.operations import ANSWERS, PLAIN
from tests.server.conftest import ROWS

SEED = 4
# JSON Schema cannot say what holds between fields, such as "top_logprobs needs logprobs": a body that fits
# the description may be refused, with a reason. And a 404 may be of a file that the body names, or that left
# its stores because it was deleted, which schemathesis takes for the store: test_stored_file_law.py knows.
UNCHECKED = "positive_data_acceptance,ensure_resource_availability"
PHASES = "examples,coverage,fuzzing,stateful"
THINGS = 12  # of every kind, so that a DELETE here leaves some for a GET there


def stock(client) -> dict[str, list[str]]:
    """Things of every kind; their ids by the parameter that they fill."""
    stores = [client.vector_stores.create(name=f"store {n}").id for n in range(THINGS)]
    files = [
        client.files.create(file=(f"{n}.txt", f"{ROWS[n % 3]['text']} {n}".encode()), purpose="assistants").id
        for n in range(THINGS)
    ]
    batches = [client.vector_stores.file_batches.create(store, file_ids=files).id for store in stores]
    answers = [client.responses.create(input="Hello").id for _ in range(THINGS)]
    return {
        "store_id": stores,
        "file_id": files,
        "batch_id": batches,
        "response_id": answers,
        "previous_response_id": answers,
        "id": answers,
        "model": ["echo"],
        "name": ["echo"],
        "embedder": [HashEmbedder().name],
        "template": ["question-type"],
    }


def explore(
    serve, folder: Path, *, examples: int, seconds: int, phases: str = PHASES, seed: int = SEED
) -> dict[str, Any]:
    """The report of one run with a valid key of every scope."""
    report, known = folder / "report.json", folder / "known.json"
    with serve(with_keys=True, folder=folder / "data") as running:
        key = running.keys.create(tenant="t", scopes=list(SCOPES))
        known.write_text(json.dumps(stock(running.client(api_key=key))))
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/openapi.json"),
            *(
                "--header",
                f"Authorization:Bearer {key}",
                "--seed",
                str(seed),
                "--max-examples",
                str(examples),
            ),
            *("--checks", "all", "--exclude-checks", UNCHECKED, "--continue-on-failure", "--no-color"),
            *("--report", "json", "--report-json-path", str(report), "--request-timeout", "20"),
            *("--warnings", "off", "--phases", phases),
        ]
        hooks = {"SCHEMATHESIS_HOOKS": "tests.server.exploring", "FEWSHOT_EXPLORED": str(known)}
        where = {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=folder,
            env=os.environ | hooks | where,
        )
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    assert report.is_file(), done.stderr[-3_000:]
    found = json.loads(report.read_text())
    assert not found["errors"], found["errors"]
    assert not found["failures"], done.stdout[-20_000:]
    assert found["operations"]["tested"] == found["operations"]["total"] > 30
    return found


def test_answers_are_as_described(serve, tmp_path):
    explore(serve, tmp_path, examples=2, seconds=120, phases="fuzzing,stateful")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_answers_are_as_described_in_ten_thousand_cases(serve, tmp_path):
    seed = int(os.environ.get("FEWSHOT_EXPLORE_SEED", SEED))
    found = explore(serve, tmp_path, examples=200, seconds=3_500, seed=seed)
    assert found["test_cases"]["generated"] >= 10_000
    assert all(phase["status"] != "failure" for phase in found["phases"].values())


def test_every_route_says_what_it_answers(serve):
    """Schemathesis fails on a status that is not described, so a route without a shape has no 200."""
    with serve() as running:
        paths = running.client().get("/../openapi.json", cast_to=dict)["paths"]
    bare = [
        f"{method} {path}"
        for path, operations in paths.items()
        for method in operations
        if path not in PLAIN and method not in ANSWERS.get(path, {})
    ]
    assert bare == ["post /v1/responses/{response_id}/cancel"], (
        "give these a shape in server/wire/operations.py"
    )
