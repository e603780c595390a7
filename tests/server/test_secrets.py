"""After a run over every route with keys: no secret in any answer, log line, metric or file."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading

import httpx
import pytest

from server.limits import salt_of
from server.reaching import LISTENS, wait_until_ready
from tests.server.tenant_programs import Programs
from tests.server.test_two_tenants import routes_of_the_app, run

TENANTS = ("acme", "umbrella")


class Overheard(Programs):
    """Programs whose every answer is kept."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.heard = []

    def send(self, tenant, call, named):
        answer = super().send(tenant, call, named)
        self.heard.append(answer.text + str(answer.headers.multi_items()))
        return answer


def files_below(folder):
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_no_secret_leaves_the_server(serve, data, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)  # of every library, the SDK's and the client's too
    folder = shutil.copytree(data, tmp_path / "data")
    programs = run(serve, folder, 400, seed=3, kind=Overheard)
    keys = [tenant.client.headers["authorization"].removeprefix("Bearer ") for tenant in programs.tenants]
    secrets = [key.split("_", 2)[2] for key in keys] + [salt_of(b"secret", name) for name in TENANTS]
    assert len(programs.calls) > 30
    everywhere = {
        "an answer": "\n".join(programs.heard).encode(),
        "a log line": caplog.text.encode(),
        "a metric": programs.exposition,
        **files_below(tmp_path),
    }
    assert len(everywhere["an answer"]) > 100_000
    assert any("journal.db" in name for name in everywhere)
    for secret in secrets:
        assert len(secret) > 20
        assert [where for where, content in everywhere.items() if secret.encode() in content] == []
    for name in TENANTS:  # nor is anybody named to whoever may read metrics
        assert name.encode() not in programs.exposition


def command(*words):
    return [sys.executable, "-m", "server.cli", *words]


@pytest.mark.slow
def test_no_secret_is_in_what_a_process_says_or_leaves_behind(tmp_path):
    pepper = "canary-pepper-9f2b7c1d4e"
    env = os.environ | {
        "FEWSHOT_DATA_DIR": str(tmp_path / "data"),
        "FEWSHOT_CACHE_DIR": str(tmp_path / "cache"),
        "FEWSHOT_EMBEDDER": "hash",
        "FEWSHOT_AUTH_ENABLED": "true",
        "FEWSHOT_KEY_PEPPER": pepper,
        "PYTHONPATH": ":".join(sys.path),
    }
    made = []
    for scopes in (("infer", "files", "feedback", "audit", "admin"), ("infer",)):
        wanted = [word for scope in scopes for word in ("--scope", scope)]
        done = subprocess.run(
            command("keys", "create", "--json", *wanted),
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        made.append(json.loads(done.stdout)["key"])
    revoked = made.pop()
    subprocess.run(
        command("keys", "revoke", revoked.split("_")[1]),
        env=env,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    log = tmp_path / "log"
    child = subprocess.Popen(
        command("serve", "--echo", "--port", "0"), env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    said = []
    try:
        for line in child.stderr:
            said.append(line)
            if found := LISTENS.search(line):
                break
        reader = threading.Thread(target=lambda: said.extend(child.stderr), daemon=True)
        reader.start()
        url = found[1]
        assert wait_until_ready(url, seconds=60, child=child)
        heard = []
        presented = [*made, revoked, made[0] + "x", "fsk_00000000_canary-of-nobody-0123"]
        with httpx.Client(base_url=url, timeout=20) as client:
            for method, path in routes_of_the_app():
                for key in presented:
                    where = path.replace(":path", "").replace("{", "").replace("}", "")
                    answer = client.request(
                        method,
                        where,
                        headers={"authorization": f"Bearer {key}"},
                        params={"api_key": key},
                        json={"messages": 5, "input": "Hello", "model": "echo"} if method == "POST" else None,
                    )
                    heard.append(answer.text + str(answer.headers.multi_items()))
            metrics = client.get("/metrics", headers={"authorization": f"Bearer {made[0]}"})
            assert metrics.status_code == 200
            heard.append(metrics.text)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(60)
        reader.join()
        child.stderr.close()
    assert child.returncode == 0
    log.write_text("".join(said))
    everywhere = {"an answer": "\n".join(heard).encode(), **files_below(tmp_path)}
    secrets = [key.split("_", 2)[2] for key in (*made, revoked, presented[-1])] + [pepper]
    for secret in secrets:
        assert [where for where, content in everywhere.items() if secret.encode() in content] == []
