"""kill -9 at random moments, as many as asked for, of processes that do everything users do to documents.

    python -m tests.faults.random_kills FOLDER [TIMES] [SEED]

A life is a data folder of its own and twenty kills; after each the folder is opened, verified and compared
with what was acknowledged. A life that ended is a line of FOLDER/lives.jsonl, so that a run that was stopped
goes on with the next one: TIMES counts those of earlier runs. The acts of a life are drawn from its seed,
which its line names; the moments are the machine's. A folder in which something was wrong stays. Exits with 1
when any life went wrong.

On a tmpfs it is quick, and as true: what a killed process wrote is the kernel's already, and only a power cut
(`points FOLDER PROGRAM power`) could take it.

Processes are forked from one that has everything imported: a kill costs about as much as what it interrupts.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import click

from tests.faults.lives import Act, Doing, Held, after, choose, observe, tidy, wrong
from tests.faults.points import apart

KILLS = 20  # of a life
ACTS = 60  # before a process ends by itself: more than it has time for
SECONDS = 1.0  # a process lives at most, from its fork
RECOVERING = 0.3  # of the processes are killed before they can have done much: the recovery is killed


class Turn(NamedTuple):
    """How one process ended: acts that were acknowledged, and documents of the one it died in."""

    killed: bool
    done: int
    begun: int
    told: int
    error: str


def main(folder: Path, times: int = 1000, seed: int = 1) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "lives.jsonl"
    lives = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    while (left := times - sum(life["kills"] for life in lives)) > 0:
        lives.append(live(folder / f"life-{len(lives)}", f"{seed}-{len(lives)}", min(left, KILLS)))
        with log.open("a") as lines:
            lines.write(json.dumps(lives[-1]) + "\n")
    total = {key: sum(life[key] for life in lives) for key in ("kills", "recovering", "acts", "documents")}
    interrupted: Counter[str] = Counter()
    for life in lives:
        interrupted.update(life["interrupted"])
    problems = [f"life {life['seed']}: {problem}" for life in lives for problem in life["wrong"]]
    click.echo(json.dumps(total | {"interrupted": interrupted, "wrong": problems}))
    return 1 if problems else 0


def live(place: Path, seed: str, kills: int = KILLS) -> dict[str, Any]:
    """One life of so many kills; what was done, and what was wrong with what was left."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    chance, data = random.Random(seed), place / "data"
    apart(lambda: _begin(data))
    held: Held = {}
    told: dict[str, Any] = {"seed": seed, "kills": 0, "recovering": 0, "acts": 0, "documents": 0}
    interrupted: Counter[str] = Counter()
    problems: list[str] = []
    number = 0
    while told["kills"] < kills and not problems:
        acts, promised = [], [held]
        for _ in range(ACTS):
            number += 1
            acts.append(choose(chance, promised[-1], number))
            promised.append(after(promised[-1], acts[-1]))
        early = chance.random() < RECOVERING
        turn = _killed(data, acts, chance.uniform(0, 0.05 if early else SECONDS))
        act = acts[turn.done] if turn.begun > turn.done else None
        if turn.error:
            problems.append(f"act {turn.done} ({act and act.kind}) raised {turn.error}")
        try:
            seen: Held = apart(lambda: observe(data))
            problems += wrong(promised[turn.done], act, turn.told, seen)
            held = seen
        except SystemExit as failed:
            problems.append(f"killed in {act}: what is left does not agree: {failed}")
        told["kills"] += turn.killed
        told["recovering"] += turn.done == 0
        told["acts"] += turn.done
        told["documents"] += turn.told + sum(len(one.rows) for one in acts[: turn.done])
        interrupted[act.kind if act else "between"] += turn.killed
    if not problems:
        problems += _finish(data, held)
    if not problems:
        shutil.rmtree(place)
    return told | {"interrupted": interrupted, "wrong": problems}


def _killed(data: Path, acts: list[Act], seconds: float) -> Turn:
    """A process that does these one after the other, until it is killed."""
    hears, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(hears)
        _work(data, acts, says)
    os.close(says)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)  # not yet waited for, so it is still ours
    with os.fdopen(hears) as pipe:
        lines = pipe.read().splitlines()
    _, status = os.waitpid(pid, 0)
    done, begun, told, error = 0, 0, 0, ""
    for line in lines:
        what, _, rest = line.partition(" ")
        match what:
            case "begin":
                begun, told = begun + 1, 0
            case "done":
                done, told = done + 1, 0
            case "told":
                told += int(rest)
            case _:
                error = rest
    return Turn(os.WIFSIGNALED(status), done, begun, told, error)


def _work(data: Path, acts: list[Act], says: int) -> None:
    def say(text: str) -> None:
        os.write(says, f"{text}\n".encode())

    try:
        doing = Doing(data, lambda many: say(f"told {many}"))
        for act in acts:
            say("begin")
            doing(act)
            say("done")
        doing.close()
    except BaseException:
        say("error " + traceback.format_exc().replace("\n", " | "))
    finally:
        os._exit(0)


def _begin(data: Path) -> None:
    doing = Doing(data, lambda _: None)
    doing.begin()
    doing.close()


def _finish(data: Path, held: Held) -> list[str]:
    """The life's end without a kill: what waits is read, what is dead leaves, and nothing else is left."""
    work = Act("work")

    def complete() -> list[str]:
        doing = Doing(data, lambda _: None)
        doing(work)
        doing.close()
        left = tidy(data)
        problems = [f"nobody names {name}" for name in left]
        seen, promised = observe(data), after(held, work)
        return problems + ([] if seen == promised else wrong(promised, None, 0, seen))

    try:
        told: list[str] = apart(complete)
        return told
    except SystemExit as failed:
        return [f"the end: {failed}"]


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
