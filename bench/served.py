"""Served equals trained: what `fewshot train` makes, in the running server, against Hugging Face and peft.

    python -m bench served --data PACKS [--work FOLDER] [--device cuda --dtype bfloat16]

Every kind is trained for a few steps on questions of the pack c-trec by the command that people use, loaded
into a server process and asked greedily: alone, then all at once. The reference is transformers with peft in
float32 through the same chat template. At every step the token, its log-probability and the twenty likeliest
are held against each other. `--work` keeps what was trained and what the reference said.

In bfloat16 nobody agrees with float32, not even transformers. There the yardstick is how far transformers
and peft in bfloat16, along the same tokens, are from the float32 reference: served may be twice as far, and
another token may stand only where the reference has the two within that distance of each other.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import click
import httpx
import numpy as np

from bench.hf_answers import TOP, Said, Where, kept_answers
from bench.retrieval import rows
from bench.servers import fewshot_server
from server.models import locate
from server.settings import load_settings

PACK = "c-trec"
MOST = 2e-3  # of a log-probability, in float32
TIMES = 2.0  # in bfloat16: of what rounding does to transformers
QUESTION = "Which kind of answer does this question want: {labels}? Say one word.\n\n{text}"
WORDS = {"ABBR": "abbreviation", "DESC": "description", "ENTY": "entity", "HUM": "person", "LOC": "place",
         "NUM": "number"}  # fmt: skip
TRAIN_ROWS, VALID_ROWS = 48, 4
# High learning rates: few steps must change what the model says, for an idle adapter would prove nothing.
KINDS: Mapping[str, Sequence[str]] = {
    "lora-r8": ("lora", "--rank", "8", "--learning-rate", "0.002"),
    "lora-r16": ("lora", "--rank", "16", "--learning-rate", "0.002", "--seed", "12"),
    "rslora-r16": ("rslora", "--rank", "16", "--learning-rate", "0.001"),
    "soft-prompt": ("soft-prompt", "--tokens", "16"),
    "prefix": ("prefix", "--tokens", "32"),
    "ia3": ("ia3", "--learning-rate", "0.05"),
    "bottleneck": ("bottleneck", "--rank", "16", "--learning-rate", "0.005"),
    "full": ("full", "--learning-rate", "0.0001"),
}
WHOLE = ("ia3", "bottleneck", "full")  # each with an engine of its own, one at a time
KNOBS = {
    "FEWSHOT_ENGINE_CONTEXT": "512",
    "FEWSHOT_ENGINE_KV_CACHE_BYTES": str(2**28),
    "FEWSHOT_ENGINE_MAX_LORAS": "2",  # three LoRAs turn on them
    "FEWSHOT_ENGINE_MAX_LORA_RANK": "16",
    "FEWSHOT_ENGINE_LIVE_LORAS": "4",
    "FEWSHOT_ENGINE_SOFT_ROWS": "16",
    "FEWSHOT_ENGINE_PREFIX_ROWS": "32",
    "FEWSHOT_ADAPTERS_FULL_MODELS": "1",
    "FEWSHOT_ADAPTERS_FULL_KV_CACHE_BYTES": str(2**28),
    "FEWSHOT_EMBEDDER": "hash",
    "FEWSHOT_ENGINE_GPU_MEMORY_SHARE": "0.05",  # of a card, looked for before the start
}


class Row(NamedTuple):
    """A kind, and how far served is from trained."""

    kind: str
    load_seconds: float
    answers: int
    equal: int  # in every token
    largest: float  # difference of a log-probability, over the steps up to where the tokens part
    changed: int  # questions that the base answers otherwise, of those asked
    tied: int  # answers that part from the reference where two tokens are within the tolerance
    tolerance: float

    @property
    def good(self) -> bool:
        return self.equal + self.tied == self.answers and self.largest <= self.tolerance


@click.command()
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True), envvar="FEWSHOT_TEST_DATA"
)
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Name or folder.")
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), help="Keeps what was trained.")
@click.option("--kinds", default=",".join(KINDS), show_default=True, help="These only.")
@click.option("--questions", default=4, show_default=True)
@click.option("--tokens", default=12, show_default=True, help="Of an answer.")
@click.option("--epochs", default=2.0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="Where it is trained, and the reference.")
@click.option("--dtype", default="float32", show_default=True, help="Of the served engine.")
@click.option("--jobs", default=1, show_default=True, help="Trainings at once.")
def main(
    data: Path,
    model: str,
    work: Path | None,
    kinds: str,
    questions: int,
    tokens: int,
    epochs: float,
    device: str,
    dtype: str,
    jobs: int,
) -> None:
    """Print a table; exit 1 when an answer differs, or a kind changes nothing."""
    folder = Path(locate(model, load_settings().paths.cache / "models"))
    with tempfile.TemporaryDirectory(prefix="fewshot-served-") as scratch:
        place = (work or Path(scratch)).absolute()
        asked = write_rows(data / PACK / "dev", place, questions)
        chosen = [kind for kind in KINDS if kind in kinds.split(",")]
        with ThreadPoolExecutor(jobs) as pool:
            trained = pool.map(lambda kind: train(kind, folder, place, epochs, device), chosen)
            made = dict(zip(chosen, trained, strict=True))
        wanted: dict[str | None, list[Said]] = {}
        tolerances: dict[str | None, float] = {}
        for kind, version in ((None, None), *made.items()):
            adapter = place / "adapters" / version.replace("@", "/") if version else None
            file = place / f"{kind or 'base'}-{tokens}.json"
            wanted[kind] = kept_answers(file, folder, adapter, asked, tokens, Where(device))
            tolerances[kind] = MOST
            if dtype != "float32":
                rounded = kept_answers(
                    file.with_suffix(f".{dtype}.json"), folder, adapter, asked, tokens, Where(device, dtype)
                )
                far, *_ = parted(list(enumerate(rounded)), wanted[kind], np.inf)
                tolerances[kind] = TIMES * far
            print(f"reference: {kind or 'the base'}", file=sys.stderr)
        knobs = KNOBS | {"FEWSHOT_DATA_DIR": str(place), "FEWSHOT_ENGINE_MODEL": str(folder)}
        knobs["FEWSHOT_ENGINE_DTYPE"] = dtype
        with fewshot_server(knobs, start_seconds=900.0) as (_, port):
            found = asyncio.run(
                measure(f"http://127.0.0.1:{port}/v1/", made, wanted, tolerances, asked, tokens)
            )
    print(table(found))
    good = all(row.good for row in found)
    raise SystemExit(0 if good and all(row.changed for row in found if row.kind != "base") else 1)


def write_rows(pack: Path, place: Path, count: int) -> list[str]:
    """Training rows into `place`; the questions to ask afterwards, of the test part."""
    place.mkdir(parents=True, exist_ok=True)
    learned = []
    for number, row in zip(range(TRAIN_ROWS + VALID_ROWS), rows(pack / "train.jsonl"), strict=False):
        prompt = [{"role": "user", "content": _question(row["text"])}]
        part = "valid" if number < VALID_ROWS else "train"
        learned.append({"prompt": prompt, "completion": WORDS[row["label_name"]], "split": part})
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in learned))
    return [_question(row["text"]) for _, row in zip(range(count), rows(pack / "test.jsonl"), strict=False)]


def _question(text: str) -> str:
    return QUESTION.format(labels=", ".join(WORDS.values()), text=text)


def train(kind: str, model: Path, place: Path, epochs: float, device: str) -> str:
    """name@version by `fewshot train`, unless `place` has it already."""
    there = sorted((place / "adapters" / kind).glob("*/manifest.json"))
    if there:
        return f"{kind}@{there[-1].parent.name}"
    method, *options = KINDS[kind]
    command = [sys.executable, "-m", "server.cli", "train", method, "--data", str(place / "rows.jsonl")]
    command += ["--name", kind, "--base", str(model), "--out", str(place / "adapters"), *options]
    command += ["--epochs", str(epochs), "--batch-texts", "8", "--max-tokens", "256", "--device", device]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"fewshot train {method} ended with {done.returncode}")
    return done.stdout.strip().splitlines()[-1]


async def measure(
    url: str,
    made: Mapping[str, str],
    wanted: Mapping[str | None, Sequence[Said]],
    tolerances: Mapping[str | None, float],
    questions: Sequence[str],
    tokens: int,
) -> list[Row]:
    """Ask for each kind alone and for all that are loaded together, and compare."""
    async with httpx.AsyncClient(base_url=url, timeout=900) as http:
        base = (await _done(http.get("models")))["data"][0]["id"]
        seconds: dict[str | None, float] = {None: 0.0}
        served: dict[str | None, list[tuple[int, Said]]] = {kind: [] for kind in wanted}

        async def ask(kind: str | None) -> None:
            name = base if kind is None else f"{base}:{made[kind]}"
            for number, question in enumerate(questions):
                served[kind].append((number, await say(http, name, question, tokens)))

        async def bring(kind: str) -> None:
            name, version = made[kind].split("@")
            await _done(http.post("adapters", json={"name": name, "version": version}))
            began = time.perf_counter()
            await _done(http.post(f"adapters/{made[kind]}/load", json={}))
            seconds[kind] = time.perf_counter() - began
            print(f"loaded {made[kind]} in {seconds[kind]:.2f} s", file=sys.stderr)
            await ask(kind)

        beside = [kind for kind in made if kind not in WHOLE]
        await ask(None)
        for kind in beside:
            await bring(kind)
        await asyncio.gather(*(ask(kind) for kind in (None, *beside)))
        for kind in (kind for kind in made if kind in WHOLE):
            await bring(kind)
            await asyncio.gather(*(ask(one) for one in (None, kind, *beside[:1])))
            await _done(http.post(f"adapters/{made[kind]}/unload", json={}))
    return [
        compared(kind, seconds[kind], served[kind], wanted[kind], wanted[None], tolerances[kind])
        for kind in (None, *made)
    ]


async def _done(asked: Any) -> dict[str, Any]:
    answer: httpx.Response = await asked
    if answer.status_code != 200:
        raise click.ClickException(f"{answer.request.url}: {answer.status_code} {answer.text}")
    told: dict[str, Any] = answer.json()
    return told


async def say(http: httpx.AsyncClient, model: str, question: str, tokens: int) -> Said:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": TOP,
    }
    content = (await _done(http.post("chat/completions", json=body)))["choices"][0]["logprobs"]["content"]
    return Said(
        tuple(one["token"] for one in content),
        tuple(one["logprob"] for one in content),
        tuple(
            tuple(sorted((top["logprob"] for top in one["top_logprobs"]), reverse=True)) for one in content
        ),
    )


def compared(
    kind: str | None,
    seconds: float,
    served: Sequence[tuple[int, Said]],
    wanted: Sequence[Said],
    base: Sequence[Said],
    tolerance: float,
) -> Row:
    largest, equal, tied = parted(served, wanted, tolerance)
    changed = sum(one.tokens != other.tokens for one, other in zip(wanted, base, strict=True))
    return Row(kind or "base", seconds, len(served), equal, largest, changed, tied, tolerance)


def parted(
    served: Sequence[tuple[int, Said]], wanted: Sequence[Said], tolerance: float
) -> tuple[float, int, int]:
    """(largest difference of a log-probability up to where the tokens part, answers equal in all tokens,
    answers that part where the reference has two tokens within the tolerance of each other).
    """
    largest, equal, tied = 0.0, 0, 0
    for number, said in served:
        want = wanted[number]
        equal += said.tokens == want.tokens
        for at, (token, expected) in enumerate(zip(said.tokens, want.tokens, strict=True)):
            ours, theirs = (said.logprobs[at], *said.best[at]), (want.logprobs[at], *want.best[at])
            largest = max(largest, *(abs(a - b) for a, b in zip(ours, theirs, strict=True)))
            if token != expected:
                tied += tolerance > MOST and want.best[at][0] - want.best[at][1] <= tolerance
                break
    return largest, equal, tied


def table(found: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| kind | loaded in s | answers equal in every token | apart at a tie | largest difference of ln p | "
        "allowed | changed |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        lines.append(
            f"| {row.kind} | {row.load_seconds:.2f} | {row.equal} of {row.answers} | {row.tied} | "
            f"{row.largest:.1e} | {row.tolerance:.1e} | {row.changed} |"
        )
    return "\n".join(lines)
