"""deploy/grafana/fewshot.json: every query asks for metrics that a server has, by labels that they have."""

import importlib.util
import json
import re
import socket
from pathlib import Path

import httpx
import pytest
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families

from tests.server.leaving import seconds_until
from tests.server.test_serving import serving

DASHBOARD = Path("deploy/grafana/fewshot.json")
FUNCTIONS = {"histogram_quantile", "sum", "rate", "min", "max", "increase", "by", "le", "interval"}
NAME = re.compile(r"(?<![\w:$\"{])[a-zA-Z_][\w:]*(?!\w)")
LABELS = re.compile(r"by \(([^)]*)\)")


def queries():
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield pytest.param(
                target["expr"], target["legendFormat"], id=f"{panel['title']}-{target['refId']}"
            )


def asked(expression):
    """(metrics, labels) of a query."""
    labels = {label.strip() for group in LABELS.findall(expression) for label in group.split(",")}
    bare = re.sub(r"\[[^\]]*\]", "", LABELS.sub("", expression))
    return {name for name in NAME.findall(bare) if name not in FUNCTIONS}, labels


@pytest.fixture(scope="module")
def offered(tmp_path_factory):
    """name → labels of all samples of a server that listens beyond loopback, from its metrics port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    beyond = {
        "FEWSHOT_SERVER_HOST": "127.0.0.2",  # beyond those that are known to be loopback, and yet it is
        "FEWSHOT_AUTH_ENABLED": "true",
        "FEWSHOT_SERVER_METRICS_PORT": str(port),
    }
    with serving(tmp_path_factory.mktemp("served"), **beyond):
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found = {}
    for family in text_string_to_metric_families(text):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(
            family.type, ("",)
        )
        for suffix in suffixes:
            found[family.name + suffix] = {label for one in family.samples for label in one.labels}
    return found


def declared():
    """Labels of our families, which have no sample before something is counted."""
    from server.metrics import Metrics

    held = vars(Metrics()).values()
    return {one._name: set(one._labelnames) for one in held if hasattr(one, "_labelnames")}


def of_vllm():
    """Names that vLLM's source gives its families; nothing of it is imported."""
    place = Path(next(iter(importlib.util.find_spec("vllm").submodule_search_locations)))
    text = "".join(path.read_text() for path in (place / "v1" / "metrics").glob("*.py"))
    counters = re.findall(r'counter_cls\(\s*name="(vllm:[\w:]+)"', text)
    gauges = re.findall(r'gauge_cls\(\s*name="(vllm:[\w:]+)"', text)
    return {*gauges, *(f"{name}_total" for name in counters)}


@pytest.mark.parametrize(("expression", "legend"), list(queries()))
def test_every_query_asks_for_what_there_is(offered, expression, legend):
    metrics, labels = asked(expression)
    assert metrics
    known = declared()
    for name in metrics:
        if name.startswith("vllm:"):
            assert name in of_vllm()
            continue
        assert name in offered, f"{name} is no metric of a server"
        family = re.sub(r"_(total|bucket|sum|count)$", "", name)
        has = known.get(family, set()) | ({"le"} if name.endswith("_bucket") else set())
        assert labels <= has, f"{name} has no label {labels - has}"
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels


def test_a_query_for_something_else_would_be_found(offered):
    assert asked("sum by (le, arm) (rate(fewshot_nothing_bucket[5m]))") == (
        {"fewshot_nothing_bucket"},
        {"le", "arm"},
    )
    assert "fewshot_nothing_bucket" not in offered


def test_gauges_are_read_when_they_are_asked_for_also_on_the_port_of_their_own(offered):
    assert {"fewshot_queue_depth", "fewshot_sequences_running", "fewshot_engine_ready"} <= set(offered)
    assert "process_resident_memory_bytes" in offered


def test_every_metric_of_ours_is_told_of_and_no_other():
    page = Path("docs/observability.md").read_text()
    told = set(re.findall(r"^\| `(fewshot_\w+)`", page, re.MULTILINE))
    known = {f"{name}_total" if kind is Counter else name for name, kind in families()}
    assert told == known


def families():
    from server.metrics import Metrics

    held = [one for one in vars(Metrics()).values() if hasattr(one, "_labelnames")]
    return [(one._name, type(one)) for one in held]


def with_a_file(client, value):
    """The id of a store whose one file can be searched."""
    store = client.post("/vector_stores", json={"name": "s"}).json()["id"]
    form = {"file": ("a.txt", b"Ducks swim on ponds."), "purpose": (None, "assistants")}
    file = client.post("/files", files=form).json()["id"]
    client.post(f"/vector_stores/{store}/files", json={"file_id": file})
    assert seconds_until(lambda: value("fewshot_publications_total") == 1.0, 20) < 20
    return store


def test_searches_are_timed_by_leg(serve, tmp_path):
    with serve(folder=tmp_path) as running, httpx.Client(base_url=f"{running.url}/v1", timeout=20) as client:
        value = running.parts.metrics.registry.get_sample_value
        store = with_a_file(client, value)

        def searches():
            legs = ("embed", "vector", "keyword", "fuse", "rerank", "all")
            counts = (value("fewshot_retrieval_duration_seconds_count", {"leg": leg}) for leg in legs)
            return dict(zip(legs, counts, strict=True))

        ask = {"model": "echo", "messages": [{"role": "user", "content": "What do ducks do?"}]}
        client.post("/chat/completions", json={**ask, "fewshot": {"vector_store_ids": [store]}})
        assert searches() == {"embed": 1, "vector": 1, "keyword": 1, "fuse": 1, "rerank": None, "all": 1}
        client.post(f"/vector_stores/{store}/search", json={"query": "ducks", "search_mode": "keyword"})
        assert searches() == {"embed": 1, "vector": 1, "keyword": 2, "fuse": 2, "rerank": None, "all": 1}


def test_attached_files_and_what_is_not_yet_answered_are_counted(serve, tmp_path):
    with serve(folder=tmp_path) as running, httpx.Client(base_url=f"{running.url}/v1", timeout=20) as client:
        value = running.parts.metrics.registry.get_sample_value
        with_a_file(client, value)
        assert value("fewshot_ingest_files_total") == value("fewshot_ingest_chunks_total") == 1.0
        assert seconds_until(lambda: value("fewshot_requests_in_flight") == 0.0, 20) < 20
