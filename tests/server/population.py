"""A population of users at real servers: they ask, read the answer, and judge it by its words alone.

The servers echo the question as the template words it, so each arm's template plants its quality: users like
what starts with `B:` more often than what starts with `A:`, and correct what starts with `C:`.
"""

import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

LIKED = {"A": 0.5, "B": 0.66, "C": 0.66}
CORRECTED = {"A": 0.02, "B": 0.02, "C": 0.3}
TEMPLATE = """
format = 1
name = "word-{letter}"
version = 1
task = "answer"
about = "For a test."
[slots]
instructions = {{ type = "text", trust = "user", optional = true }}
[parts]
system = "{{{{ instructions }}}}"
question = "{upper}: {{{{ question }}}}"
"""
EXPERIMENT = """
format = 1
name = "{name}"
question = "Which wording do users like?"
salt = "{salt:0>32}"
unit = "user"
control = "first"
ramp = {ramp}
[arms.first]
weight = 0.5
template = "word-a@1"
[arms.second]
weight = 0.5
template = "word-{letter}@1"
[metrics.solved]
from = "feedback.thumb"
window_hours = {window}
[metrics.corrected]
from = "feedback.correction"
per_unit = "any"
better = "lower"
window_hours = {window}
[decide]
primary = "solved"
guardrails = [{{ metric = "corrected", margin = 0.08 }}]
expected_units = 1500
block_units = 50
most_units = 3000
least_days = 0
"""


def write_templates(folder: Path) -> None:
    for letter in "abc":
        (folder / f"word-{letter}").mkdir(parents=True)
        (folder / f"word-{letter}" / "1.toml").write_text(
            TEMPLATE.format(letter=letter, upper=letter.upper())
        )


def write_experiment(
    folder: Path, name: str, *, letter: str, ramp: float = 1.0, window: float = 0.004
) -> None:
    folder.mkdir(exist_ok=True)
    text = EXPERIMENT.format(name=name, salt=name, letter=letter, ramp=ramp, window=window)
    aside = folder / f"{name}.writing"
    aside.write_text(text)
    aside.rename(folder / f"{name}.toml")


@dataclass
class Seen:
    """What the population knows by itself, to hold the journal against."""

    answers: Counter[str] = field(default_factory=Counter)  # acknowledged, by the header's arm
    units: dict[str, set[str]] = field(default_factory=dict)  # arm → users
    thumbs: Counter[tuple[str, bool]] = field(default_factory=Counter)
    turns: list[str] = field(default_factory=list)  # ids of acknowledged answers
    opinions: list[str] = field(default_factory=list)  # ids of acknowledged feedback
    errors: int = 0


async def live(urls, users, *, seed=1, seen=None, at_once=24, forgiving=False) -> Seen:
    """Each user asks once or twice, at any of the servers, and says what they think."""
    seen = seen or Seen()
    waiting = asyncio.Semaphore(at_once)
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(timeout=30, limits=limits) as client:

        async def one(user: str) -> None:
            rng = random.Random(f"{seed}-{user}")
            async with waiting:
                for _ in range(rng.randint(1, 2)):
                    try:
                        await turn(client, rng.choice(urls), user, rng, seen)
                    except httpx.HTTPError:
                        seen.errors += 1
                        if not forgiving:
                            raise

        await asyncio.gather(*(one(user) for user in users))
    return seen


async def turn(client, url, user, rng, seen) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": f"Hello from {user}"}], "user": user}
    answer = await client.post(f"{url}/v1/chat/completions", json=body)
    answer.raise_for_status()
    told = answer.json()
    arm = answer.headers["x-fewshot-arm"]
    seen.turns.append(told["id"])
    seen.answers[arm] += 1
    seen.units.setdefault(arm, set()).add(user)
    letter = told["choices"][0]["message"]["content"][0]
    good = rng.random() < LIKED[letter]
    await say(client, url, told["id"], "thumb", good, seen)
    seen.thumbs[arm, good] += 1
    if rng.random() < CORRECTED[letter]:
        await say(client, url, told["id"], "correction", "Better.", seen)


async def say(client, url, target, metric, value, seen) -> None:
    body = {"id": target, "metric": metric, "value": value}
    told = await client.post(f"{url}/v1/feedback", json=body)
    while told.status_code == 503:  # as clients do
        await asyncio.sleep(float(told.headers["retry-after"]))
        told = await client.post(f"{url}/v1/feedback", json=body)
    told.raise_for_status()
    seen.opinions.append(told.json()["id"])


@contextlib.contextmanager
def servers(data: Path, experiments: Path, templates: Path, count: int = 1):
    """`fewshot serve --echo` processes on one data folder; yields (urls, processes)."""
    environment = {
        **os.environ,
        "FEWSHOT_DATA_DIR": str(data),
        "FEWSHOT_EMBEDDER": "hash",
        "FEWSHOT_PATHS_EXPERIMENTS": str(experiments),
        "FEWSHOT_PATHS_TEMPLATES": str(templates),
        "FEWSHOT_EXPERIMENTS_EVALUATE_SECONDS": "1",
        "FEWSHOT_SERVER_RUNNING": "32",
    }
    command = [sys.executable, "-m", "server.cli", "serve", "--port", "0", "--echo"]
    with contextlib.ExitStack() as stack:
        urls, children = [], []
        for number in range(count):
            log = data / f"server-{number}-{time.monotonic_ns()}.log"
            with log.open("w") as output:
                child = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            stack.callback(_end, child)
            children.append(child)
            urls.append(_ready(child, log))
        yield urls, children


def _ready(child, log: Path) -> str:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert child.poll() is None, log.read_text()
        found = re.search(r"listens on (http://\S+)/v1", log.read_text())
        if found:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{found[1]}/ready", timeout=5).status_code == 200:
                    return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def _end(child) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
