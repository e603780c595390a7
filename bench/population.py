"""Users at the real model: an experiment finds the better prompt, and stops the harmful one.

    python -m bench population --data PACKS --work FOLDER [--users 240]

The pack c-trec holds questions and what kind of answer they ask for. Each user asks one of its test ones,
likes an answer that names the right kind, and corrects one that does not. Two experiments follow each other:
first the control shows no examples and the other arm the eight nearest; then, with that promoted, the control
shows the eight nearest and the other arm none, which must be stopped. What users saw is held against journal
and report, count by count.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import httpx

from bench.retrieval import rows
from bench.servers import fewshot_server
from server.models import DECODER

PACK, TEMPLATE = "c-trec", "question-type@1"
KINDS = {
    "ABBR": "Abbreviation",
    "DESC": "Description",
    "ENTY": "Entity",
    "HUM": "Human",
    "LOC": "Location",
    "NUM": "Number",
}
MODEL = {"model": DECODER.name}
DEMOS, AT_ONCE, BLOCK = 600, 6, 20
ARMS = {
    "nearest": 'fewshot = {{ dynamic = {{ strategy = "nearest", count = 8 }} }}\npool = "{pool}"',
    "none": 'fewshot = {{ dynamic = {{ strategy = "none", count = 0 }} }}\npool = "{pool}"',
}
EXPERIMENT = """
format = 1
name = "{name}"
question = "Which worked examples get the kind of answer right?"
salt = "{salt}"
unit = "user"
control = "{control}"
ramp = 1.0
[arms.{control}]
weight = 0.5
template = "{template}"
{first}
[arms.{other}]
weight = 0.5
template = "{template}"
{second}
[metrics.solved]
from = "feedback.thumb"
window_hours = 0.004
[metrics.corrected]
from = "feedback.correction"
per_unit = "any"
better = "lower"
window_hours = 0.004
[decide]
primary = "solved"
guardrails = [{{ metric = "corrected", margin = 0.1 }}]
expected_units = {users}
block_units = {block}
most_units = {most}
least_days = 0
"""


class Seen(NamedTuple):
    """What the users know by themselves."""

    turns: Counter[str]  # answers by arm
    liked: Counter[str]


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--work", required=True, type=click.Path(path_type=Path), help="A fresh folder.")
@click.option("--users", default=240, show_default=True, help="At most, of each experiment.")
def main(data: Path, work: Path, users: int) -> None:
    """Print what was seen as JSON; exit 1 where something did not hold."""
    questions = list(rows(data / PACK / "dev" / "test.jsonl"))
    for name in ("data", "experiments", "pools/trec/1"):
        (work / name).mkdir(parents=True)
    asked = {one["text"].casefold() for one in questions}
    train = [one for one in rows(data / PACK / "dev" / "train.jsonl") if one["text"].casefold() not in asked]
    lines = (
        {"id": one["id"], "input": one["text"], "output": KINDS[name], "label": name}
        for one in train[:DEMOS]
        for name in [one["label_name"]]
    )
    (work / "pools/trec/1/demos.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    settings = {
        "FEWSHOT_DATA_DIR": str(work / "data"),
        "FEWSHOT_PATHS_EXPERIMENTS": str(work / "experiments"),
        "FEWSHOT_PATHS_POOLS": str(work / "pools"),
        "FEWSHOT_EXPERIMENTS_EVALUATE_SECONDS": "1",
    }
    with fewshot_server(settings, start_seconds=600) as (_, port):
        url = f"http://127.0.0.1:{port}"
        found: dict[str, Any] = {
            "better": _lived(url, work, questions, users, ("none", "nearest")),
            "promoted": _promoted(url, "none-nearest", "nearest"),
            "harm": _lived(url, work, questions, users, ("nearest", "none")),
        }
    held = {
        "the better arm was found": found["better"]["verdict"] == "winner",
        "promotion switched traffic": found["promoted"] == "none-nearest/nearest",
        "the harmful arm was stopped": found["harm"]["verdict"] == "harmful",
        "journal and report agree": all(found[one]["agree"] for one in ("better", "harm")),
    }
    click.echo(json.dumps({**found, "held": held}, indent=1))
    raise SystemExit(0 if all(held.values()) else 1)


def _lived(
    url: str, work: Path, questions: Sequence[dict[str, Any]], users: int, arms: tuple[str, str]
) -> dict[str, Any]:
    """Users come in groups until a verdict is written down or they have run out."""
    control, other = arms
    name, began = f"{control}-{other}", time.monotonic()
    text = EXPERIMENT.format(
        name=name, salt=secrets.token_hex(16), control=control, other=other, template=TEMPLATE, users=users,
        first=ARMS[control].format(pool="trec@1"), second=ARMS[other].format(pool="trec@1"),
        block=BLOCK, most=users,
    )  # fmt: skip
    aside = work / "experiments" / f"{name}.writing"
    aside.write_text(text)
    aside.rename(aside.with_suffix(".toml"))
    _wait(lambda: _get(url, name)["ramp"] == 1.0, 60)
    seen = Seen(Counter(), Counter())
    for group in _groups(name, users, 2 * BLOCK):
        asyncio.run(_live(url, name, questions, group, seen))
        try:
            _wait(lambda: _get(url, name).get("verdict") is not None, 25)  # windows close, then it looks
            break
        except TimeoutError:
            continue
    made = _get(url, f"{name}/report")
    counted = Counter({f"{name}/{arm['name']}": arm["turns"] for arm in made["arms"]})
    return {
        "verdict": made["verdict"],
        "winner": made.get("winner"),
        "harmful_arm": made.get("harmful_arm"),
        "answers": dict(seen.turns),
        "liked": dict(seen.liked),
        "comparisons": made["comparisons"],
        "guardrails": made["guardrails"],
        "agree": counted == seen.turns,
        "seconds": round(time.monotonic() - began),
    }


async def _live(
    url: str, name: str, questions: Sequence[dict[str, Any]], group: Sequence[str], seen: Seen
) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def one(user: str) -> None:
            asked = random.Random(user).choice(questions)
            right = KINDS[asked["label_name"]]
            body = {**MODEL, "messages": [{"role": "user", "content": asked["text"]}], "user": user}
            async with gate:
                answer = await client.post("/v1/chat/completions", json=body)
            answer.raise_for_status()
            arm, told = answer.headers.get("x-fewshot-arm", "none"), answer.json()
            if not arm.startswith(f"{name}/"):
                return  # stopped or promoted meanwhile
            good = told["choices"][0]["message"]["content"].strip().startswith(right[:4])
            seen.turns[arm] += 1
            seen.liked[arm] += good
            opinions = [("thumb", good), *([] if good else [("correction", right)])]
            for metric, value in opinions:
                said = {"id": told["id"], "metric": metric, "value": value}
                (await client.post("/v1/feedback", json=said)).raise_for_status()

        await asyncio.gather(*map(one, group))


def _promoted(url: str, name: str, arm: str) -> str:
    """The arm that a caller without a unit is served after its promotion."""
    made = httpx.post(f"{url}/v1/experiments/{name}/promote", json={"arm": arm}, timeout=120)
    if made.status_code != 200:
        return f"refused: {made.json()['error']['message']}"
    body = {**MODEL, "messages": [{"role": "user", "content": "Who wrote Emma ?"}]}
    told = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=600).json()
    return str(told["fewshot"]["served"])


def _groups(name: str, users: int, size: int) -> Iterator[list[str]]:
    for start in range(0, users, size):
        yield [f"{name}-{number}" for number in range(start, min(start + size, users))]


def _get(url: str, path: str) -> dict[str, Any]:
    told = httpx.get(f"{url}/v1/experiments/{path}", timeout=120)
    return dict(told.json()) if told.status_code == 200 else {"ramp": None}


def _wait(ready: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
