"""Frameworks written for OpenAI, unmodified, each in an environment of its own, against a real server."""

import json
from pathlib import Path

import pytest

from tests.environments import ROOT, python_of, spoken

HERE = Path(__file__).parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]  # most of it is the first installation


@pytest.mark.parametrize(
    ("environment", "script"),
    [
        ("frameworks", "langchain_flows.py"),
        ("frameworks", "agents_flows.py"),
        ("llama-index", "llama_index_flows.py"),
    ],
)
def test_a_framework_goes_all_its_ways(echo, environment, script):
    python = python_of(environment)
    said = json.loads(spoken(python, HERE / script, echo.url, echo.key, PYTHONPATH=str(ROOT)))
    assert said["failed"] == {}, said["versions"]
    assert said["flows"] >= 7
    locked = (ROOT / "deploy" / "clients" / f"{environment}.lock").read_text()
    assert all(f"{name}=={version} " in locked for name, version in said["versions"].items())
