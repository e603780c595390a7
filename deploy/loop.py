"""`make loop`: what people say about answers becomes an adapter, and the adapter has to earn its place.

serve → feedback → export → train → offline gate → an arm at 5 % of the traffic → report → promote. Every step
is a command or a request that a user would send, and is shown (docs/closed-loop.md). What it makes stays in a
folder of its own; no store or journal of yours is touched.
"""

import json
import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import httpx

from deploy.loop_steps import Walk, fewshot, say, serving, step
from deploy.loop_users import ArmChanged, DataRefused, Parts, People, part, read_cases
from server.settings import load_settings

HERE = Path(__file__).resolve().parent
SAMPLE = HERE / "loop_data" / "feedback.jsonl"
NAME = "loop"  # of the experiment
RAMP = 0.1  # of the users, half of whom meet the adapter: 5 % of the traffic
EXPERIMENT = """\
format   = 1
name     = "{name}"
question = "Do answers of {adapter} please more people?"
salt     = "{salt}"
unit     = "user"
control  = "base"
ramp     = {ramp}

[arms.base]
weight = 0.5
template = "plain@1"

[arms.adapter]
weight = 0.5
template = "plain@1"
adapter = "{adapter}"

[metrics.liked]
from = "feedback.thumb"
missing = "failure"
window_hours = {window_hours}

[decide]
primary = "liked"
block_units = 25
expected_units = {expected_units}
most_units = {most_units}
least_days = 0          # of a walk; let a real one run for a week
"""


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=SAMPLE, help="JSONL: question, correction.")
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), help="Where everything is kept.")
@click.option("--users", type=click.IntRange(100), default=200, show_default=True, help="Of each stage.")
@click.option("--epochs", type=float, default=3.0, show_default=True, help="Of both trainings.")
@click.option("--max-tokens", type=click.IntRange(1), default=64, show_default=True, help="Of an answer.")
@click.option("--window-seconds", type=float, default=120.0, show_default=True, help="A thumb counts in it.")
@click.option("--anyway", is_flag=True, help="Go on when the gate says no, and promote by force.")
@click.option("--echo", is_flag=True, help="Serve without a model: to try the walk, not the adapter.")
def main(
    data: Path,
    work: Path | None,
    users: int,
    epochs: float,
    max_tokens: int,
    window_seconds: float,
    anyway: bool,
    echo: bool,
) -> None:
    """Walk the closed loop once; the last line is its verdict."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server that was started ends too
    settings = load_settings()
    try:
        parts = part(read_cases(data))
    except DataRefused as problem:
        raise click.ClickException(str(problem)) from problem
    work = (work or settings.paths.data / "loop" / time.strftime("%Y%m%d-%H%M%S")).resolve()
    (work / "experiments").mkdir(parents=True, exist_ok=True)
    env = {
        **os.environ,
        "FEWSHOT_DATA_DIR": str(work / "data"),
        "FEWSHOT_PATHS_EXPERIMENTS": str(work / "experiments"),
        "FEWSHOT_ENGINE_MAX_LORAS": "1",
        "FEWSHOT_ENGINE_MAX_LORA_RANK": "8",
        "FEWSHOT_ENGINE_SOFT_ROWS": "32",
        "FEWSHOT_EXPERIMENTS_EVALUATE_SECONDS": "5",
    }
    walk = Walk(
        work=work, env=env, users=users, epochs=epochs, max_tokens=max_tokens, window_seconds=window_seconds,
        anyway=anyway, seconds=settings.server.deadline_seconds,
    )  # fmt: skip
    if not echo:
        fewshot(walk, "models", "fetch")
    with serving(walk, echo) as url:
        say(f"\nVerdict: {walked(walk, parts, url)}")
    say(f"Everything is in {work}.")


def walked(walk: Walk, parts: Parts, url: str) -> str:
    """The verdict, in a sentence."""
    model = str(httpx.get(f"{url}/v1/models").json()["data"][0]["id"])
    people = People(url, model, max_tokens=walk.max_tokens, seconds=walk.seconds)
    try:
        collect(people, parts)
        adapters = trained(walk, parts, url)
        candidate, enough, proven = gate(walk, parts, url, model, adapters)
        if not proven and not walk.anyway:
            return (
                f"no. On {len(parts.judged)} questions that nothing was trained on, neither adapter is "
                "proven better than the base, so nothing goes live (ANYWAY=1 goes on)."
            )
        return lived(walk, people, parts, candidate, enough)
    finally:
        people.close()


def collect(people: People, parts: Parts) -> None:
    count = len(parts.corrected)
    step(f"1. People ask {count} questions, and correct what they read")
    say("POST /v1/chat/completions, then POST /v1/feedback: thumb false, correction as text")
    say(f"{people.correct(parts.corrected)} of {count} answers were corrected.")


def trained(walk: Walk, parts: Parts, url: str) -> dict[str, str]:
    """name@version of each adapter, by arm, loaded into the running server."""
    step("2. The journal becomes training data; what will judge is held out")
    judged = walk.work / "judged.jsonl"
    judged.write_text(
        "".join(
            json.dumps({"question": one.question, "answers": one.answers}, ensure_ascii=False) + "\n"
            for one in parts.judged
        )
    )
    pairs, sft = walk.work / "pairs.jsonl", walk.work / "sft.jsonl"
    for view, file in (("pairs", pairs), ("sft", sft)):
        fewshot(walk, "export", view, "--out", str(file), "--held-out", str(judged), "--most-per-unit", "5")
    step("3. Two adapters are trained, while the server goes on answering")
    into = walk.work / "trained"
    shared = ("--out", str(into), "--epochs", f"{walk.epochs:g}", "--max-tokens", "512", "--batch-texts", "8")
    found = {}
    for arm, method, file, own in (
        ("dpo", "dpo", pairs, ("--rank", "8")),
        ("soft", "soft-prompt", sft, ("--tokens", "32")),
    ):
        made = fewshot(walk, "train", method, "--data", str(file), "--name", f"loop-{arm}", *shared, *own)
        name, version = made.strip().splitlines()[-1].split("@")
        added = fewshot(walk, "adapters", "add", str(into / name / version)).strip()
        fewshot(walk, "adapters", "load", added, "--url", url)
        found[arm] = added
    return found


def gate(
    walk: Walk, parts: Parts, url: str, model: str, adapters: Mapping[str, str]
) -> tuple[str, float, bool]:
    """(The better adapter, the F1 from which people will like an answer, whether it is proven better)."""
    step(f"4. The offline gate: {len(parts.judged)} questions that nobody trained on, the same for all")
    arms = [f"base: model={model}", *(f"{arm}: model={model}:{one}" for arm, one in adapters.items())]
    said = fewshot(
        walk, "evaluate", "answers", str(walk.work / "judged.jsonl"), "--url", url, "--json",
        "--max-tokens", str(walk.max_tokens), *(word for arm in arms for word in ("--arm", arm)),
        show=False,
    )  # fmt: skip
    content: dict[str, Any] = json.loads(said)
    (walk.work / "gate.json").write_text(json.dumps(content, indent=1))
    for one in content["arms"]:
        f1 = one["f1"]
        say(f"  {one['arm']:<6} token F1 {f1['mean']:.3f} ({f1['low']:.3f}–{f1['high']:.3f})")
    rows = content["against_first"]
    for row in rows:
        difference = row["f1_difference"]
        say(
            f"  {row['arm']} − base: {difference['mean']:+.3f} ({difference['low']:+.3f} .. "
            f"{difference['high']:+.3f}), p = {row['f1_p_holm']:.4f} (sign flips, Holm): "
            f"{'not proven' if row['f1_proven'] == 'no' else 'proven ' + row['f1_proven']}"
        )
    best = max(rows, key=lambda row: (row["f1_proven"] == "better", row["f1_difference"]["mean"]))
    return adapters[best["arm"]], float(content["arms"][0]["f1"]["mean"]), best["f1_proven"] == "better"


def lived(walk: Walk, people: People, parts: Parts, adapter: str, enough: float) -> str:
    step(f"5. {adapter} becomes an arm: 5 % of the users meet it")
    salt = secrets.token_hex(16)
    write_experiment(walk, adapter, salt, RAMP)
    before = traffic(walk, people, parts, enough, range(walk.users))
    if (found := reported(walk)) in ("harmful", "invalid"):
        return f"no. The experiment stopped itself at 5 %: {found}."
    step("6. No harm was found, so the ramp grows to everybody; who met the adapter keeps it")
    write_experiment(walk, adapter, salt, 1.0)
    after = traffic(walk, people, parts, enough, range(2 * walk.users))
    if lost := [user for user, arm in before.items() if arm == f"{NAME}/adapter" != after[user]]:
        raise click.ClickException(f"users {lost} lost the adapter when the ramp grew: that must never be")
    say(f"Thumbs count for {walk.window_seconds:g} s after a user's first answer; waiting for the last …")
    time.sleep(walk.window_seconds + 1)
    reported(walk)
    step("7. The decision")
    order = ["experiment", "promote", NAME, "adapter"]
    promoted = fewshot(walk, *order, may_fail=True)
    forced = ""
    if not promoted and walk.anyway:
        because = "the walk was told to go on anyway"
        promoted = fewshot(walk, *order, "--force", "--because", because)
        forced = " by force, against or without a verdict"
    if not promoted:
        return "no. The experiment did not find the adapter better, so the base stays (ANYWAY=1 forces it)."
    time.sleep(5)  # replicas follow a decision within so many seconds
    served = people.ask("somebody-new", parts.live[0].question)
    if served.adapter is None or not served.adapter.startswith(adapter):
        raise click.ClickException(f"{adapter} was promoted and does not answer: {served}")
    say("`fewshot experiment rollback --because …` takes it back in one step.")
    return f"yes. {adapter} answers everybody{forced}."


def reported(walk: Walk) -> str:
    """The finding of the report, which is shown."""
    fewshot(walk, "experiment", "report", NAME)
    return str(json.loads(fewshot(walk, "experiment", "report", NAME, "--json", show=False))["verdict"])


def write_experiment(walk: Walk, adapter: str, salt: str, ramp: float) -> None:
    text = EXPERIMENT.format(
        name=NAME, adapter=adapter, salt=salt, ramp=ramp, window_hours=walk.window_seconds / 3600,
        expected_units=max(100, 2 * walk.users), most_units=max(100, 2 * walk.users),
    )  # fmt: skip
    path = walk.work / "experiments" / f"{NAME}.toml"
    aside = path.with_suffix(".writing")
    aside.write_text(text)
    aside.replace(path)
    say(f"{path}: ramp = {ramp:g}")
    time.sleep(3)  # a server reads a changed file within a second


def traffic(walk: Walk, people: People, parts: Parts, enough: float, users: range) -> dict[int, str]:
    say(f"{len(users)} users ask; a rule gives their thumbs: up from F1 {enough:.2f}, the base's mean")
    try:
        met = people.visit(parts.live, users, enough)
    except ArmChanged as problem:
        raise click.ClickException(f"{problem}: that must never be") from problem
    for arm, count in sorted(Counter(met.values()).items()):
        say(f"  served by {arm:<14} {count} users ({count / len(users):.1%})")
    say("  every tenth asked twice, and met the same arm; who is not enrolled is served the control")
    return met


if __name__ == "__main__":
    main()
