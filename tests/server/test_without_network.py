"""A server in a network of its own that has nothing but loopback: it starts, answers and reads documents."""

import os
import re
import subprocess
import sys

import pytest

SCRIPT = """
import json, re, subprocess, sys, time, httpx
child = subprocess.Popen(
    [sys.executable, "-m", "server.cli", "serve", "--echo", "--port", "0"], stderr=subprocess.PIPE, text=True
)
url = re.search(r"http://\\S+/v1", child.stderr.readline())[0]
child.stderr.readline()
with httpx.Client(base_url=url, timeout=60) as http:
    form = {"file": ("a.html", b"<p>Ducks swim.</p>"), "purpose": (None, "assistants")}
    file = http.post("/files", files=form)
    store = http.post("/vector_stores", json={"name": "s"}).json()["id"]
    http.post(f"/vector_stores/{store}/files", json={"file_id": file.json()["id"]}).raise_for_status()
    while http.get(f"/vector_stores/{store}").json()["file_counts"]["in_progress"]:
        time.sleep(0.1)
    found = http.post(f"/vector_stores/{store}/search", json={"query": "ducks"}).json()["data"]
    body = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}
    said = http.post("/chat/completions", json=body).json()["choices"][0]["message"]["content"]
child.terminate()
print(json.dumps([len(found), said, child.wait(30)]))
"""


def test_a_server_needs_no_network(tmp_path):
    apart = ["unshare", "-rn"]
    if subprocess.run([*apart, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode:
        pytest.skip("a network of one's own needs unprivileged user namespaces and ip")
    environment = {**os.environ, "FEWSHOT_DATA_DIR": str(tmp_path), "FEWSHOT_EMBEDDER": "hash"}
    command = [*apart, "sh", "-c", 'ip link set lo up && exec "$0" -c "$1"', sys.executable, SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r'\[1, "Hello", 0\]', done.stdout.strip())
