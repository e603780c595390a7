"""Runs one program once for every point at which something may happen to it, and checks what is left.

    python -m tests.faults.points FOLDER PROGRAM kill|fail|power [EVERY] [FIRST] [SEED]

kill   it is killed on the way into its n-th call that changes something
fail   its n-th call, reads included, fails with EIO
power  the power is cut there: what is left is what was synced, and then that with a part of the rest

A JSON line for every point that went wrong, and one at the end with how many were tried, in this run and in
those before it: each point of kill and fail that was judged is a line of FOLDER/PROGRAM-HOW-EVERY-SEED.jsonl,
and the next run goes on behind the last. A process of its own, because it forks, and only what has no threads
may.
"""

import errno
import json
import os
import random
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from tests.faults.disk import Disk
from tests.faults.programs import PROGRAMS, State, again, prepare, state, strays
from tests.faults.tracer import Action, Call, traced

READS = ("read", "pread64")


class Case(NamedTuple):
    """A folder after something happened, and where that was."""

    point: int
    call: str
    path: str
    data: Path
    acknowledged: bool
    error: str = ""
    how: str = ""


def main(folder: Path, program: str, how: str, every: int = 1, first: int = 1, seed: int = 1) -> None:
    base = folder / "base"
    log = folder / f"{program}-{how}-{every}-{seed}.jsonl"
    before = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for stale in ("base", "new", "case", "running"):
        shutil.rmtree(folder / stale, ignore_errors=True)
    apart(lambda: prepare(base / "data"))
    old = apart(lambda: state(base / "data"))
    new = apart(lambda: _done(base, folder / "new", program))
    tried = Counter(judged["call"] for judged in before)
    wrong = sum(bool(judged["problem"]) for judged in before)
    if before:
        first = before[-1]["point"] + every
    if how == "power":
        cases = _power(base, folder, program, range(first, sys.maxsize, every), seed)
    else:
        cases = _deaths(base, folder / "case", program, how, range(first, sys.maxsize, every))
    for case in cases:
        tried[case.call] += 1
        problem = apart(lambda case=case: _judge(case, program, old, new))
        if problem:
            wrong += 1
            click.echo(json.dumps(case._asdict() | {"data": "", "problem": problem}))
        shutil.rmtree(case.data.parent)
        if how != "power":  # that is one run, from its beginning
            with log.open("a") as lines:
                judged = {"point": case.point, "call": case.call, "problem": problem}
                lines.write(json.dumps(judged) + "\n")
    click.echo(json.dumps({"tried": sum(tried.values()), "wrong": wrong, "calls": tried}))


def _deaths(base: Path, place: Path, program: str, how: str, points: range) -> Iterator[Case]:
    """A run for each of the points, until the program is through before it comes to one."""
    for point in points:
        shutil.copytree(base, place, symlinks=True)
        data, met = place / "data", []

        def entered(call: Call, point: int = point, met: list[Call] = met) -> Action:
            if how == "kill" and call.name in READS:
                return "go"
            met.append(call)
            if len(met) != point:
                return "go"
            return "kill" if how == "kill" else errno.EIO

        ended = traced(lambda data=data: PROGRAMS[program](data), data, entered)
        if len(met) < point:
            shutil.rmtree(place)
            return
        last = met[point - 1]
        acknowledged = not ended.killed and not ended.error
        yield Case(point, last.name, last.path, data, acknowledged, ended.error)


def _power(base: Path, folder: Path, program: str, points: range, seed: int) -> Iterator[Case]:
    """One run; a copy of the disk at each of the points, and after the end, twice each."""
    place = folder / "running"
    shutil.copytree(base, place, symlinks=True)
    disk, met, cases = Disk(place / "data"), 0, []
    chance = random.Random(seed)

    def cut(call: str, path: str, acknowledged: bool = False) -> None:
        for how in ("synced only", f"seed {seed}"):
            at = folder / f"cut-{len(cases)}"
            shutil.copytree(base / "sources", at / "sources")
            disk.write(at / "data", None if how == "synced only" else chance)
            cases.append(Case(met, call, path, at / "data", acknowledged, how=how))

    def entered(call: Call) -> Action:
        nonlocal met
        if call.name not in READS:
            met += 1
            if met in points:
                cut(call.name, call.path)
        disk.entered(call)
        return "go"

    ended = traced(lambda: PROGRAMS[program](place / "data"), place / "data", entered, disk.left)
    if ended.error:
        raise SystemExit(ended.error)
    cut("end", "", acknowledged=True)
    disk.close()
    yield from cases


def _judge(case: Case, program: str, old: State, new: State) -> str:
    """What is wrong with what is left; empty when nothing is."""
    try:
        left = _plain(state(case.data))
        if case.acknowledged and left != new:
            return f"acknowledged, but {_difference(left, new)}"
        if left not in (old, new):
            return (
                f"neither before nor after: {_difference(left, new)}; from before: {_difference(left, old)}"
            )
        again(program, case.data)
        after = _plain(state(case.data))
        if after != new:
            return f"once more did not complete it: {_difference(after, new)}"
        if program in ("add", "replace", "first", "merge", "purge") and (stray := strays(case.data)):
            return f"folders that nothing names: {stray}"
    except BaseException:
        return traceback.format_exc()
    return ""


def _done(base: Path, place: Path, program: str) -> State:
    shutil.copytree(base, place, symlinks=True)
    PROGRAMS[program](place / "data")
    return state(place / "data")


def _plain(held: State) -> State:
    told: State = json.loads(json.dumps(held))
    return told


def _difference(one: State, other: State) -> str:
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    return ", ".join(f"{name}: {one.get(name)} instead of {other.get(name)}" for name in names)[:600]


def apart(work: Any) -> Any:
    """The result of the work, done in a child, so that its threads end with it."""
    says, hears = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(says)
        try:
            with os.fdopen(hears, "w") as pipe:
                json.dump({"result": work()}, pipe)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(hears)
    with os.fdopen(says) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"a step that is no test failed with {status}")
    return json.loads(said)["result"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], *map(int, sys.argv[4:]))
