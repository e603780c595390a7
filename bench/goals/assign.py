"""What an experiment costs a request: assignment, exposure and layout, in front of the engine.

The real `prepare` of the server over a journal on disk and a null engine, one request after another:

experiment   a running experiment assigns the unit, the exposure is queued, the arm's template is laid out
as it came   the same request with `fewshot.experiment = "off"`: no assignment, the control's template

The exposure's disk flush is awaited between requests and is no part of the time: the server hides it behind
search, layout and prefill.
"""

import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from bench.command import goal_options, measured
from bench.machine import Watch
from bench.records import Bar, Check, Result, by_round
from bench.rounds import Sample, estimate, floor, interleave, level, noise, ratio
from indexer.database import open_database
from indexer.records import Hits
from prompts.experiments import assign
from prompts.records import Message
from prompts.templates import Library
from server.admission import Admission
from server.demonstrations import PoolDemos
from server.echo_decoder import EchoDecoder
from server.engine import Engine
from server.experiment_log import ExperimentLog
from server.experiments import Experiments
from server.following import Follower
from server.journal import Journal
from server.pipeline import Parts, prepare
from server.records import Search, Turn, Wishes

MUST_US, ASSIGN_US = 300.0, 20.0
T = TypeVar("T")
EXPERIMENT = """
format = 1
name = "bench"
question = "What does an experiment cost?"
salt = "3f9a1c64e0b7258d9c41f6a27be05d18"
unit = "user"
control = "plain"
ramp = 1.0
[arms.plain]
weight = 0.5
template = "plain@1"
[arms.shown]
weight = 0.5
template = "few-shot@1"
[metrics.solved]
from = "feedback.thumb"
[decide]
primary = "solved"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    rounds: int
    requests: int  # a sample


QUICK = Effort(rounds=3, requests=200)
FULL = Effort(rounds=9, requests=1000)


class NoSearch:
    """No request here names a store."""

    async def search(self, question: str, search: Search, *, top: int) -> Hits:
        raise LookupError("nothing is searched here")

    async def search_then(self, question: str, search: Search, *, top: int, then: Callable[[Hits], T]) -> T:
        raise LookupError("nothing is searched here")

    async def alive(self) -> bool:
        return True


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[Parts]:
    """The parts that `prepare` needs, with the experiment in force."""
    (folder / "experiments").mkdir()
    (folder / "experiments" / "bench.toml").write_text(EXPERIMENT)
    database = open_database(folder / "journal.db")
    library, demos, experiments = Library.load(), PoolDemos(None), Experiments()
    Follower(ExperimentLog(database), experiments, library, demos, folder / "experiments").start()

    async def echo() -> EchoDecoder:
        return EchoDecoder()

    parts = Parts(
        engine=Engine(echo),
        retriever=NoSearch(),
        library=library,
        demos=demos,
        journal=Journal(database, secret=b"bench"),
        admission=Admission(running=16, queue=16, deadline_seconds=60),
        experiments=experiments,
        secret=b"bench",
    )
    parts.engine.start()
    await parts.engine.up.wait()
    try:
        yield parts
    finally:
        await parts.engine.close()
        parts.journal.close()


class Requests:
    """Requests one after another; remembers the arms they met."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._number = 0
        self.arms: set[str] = set()

    async def sample(self, requests: int, wishes: Wishes) -> float:
        """Median microseconds of `prepare`."""
        took = []
        for _ in range(requests):
            self._number += 1
            turn = Turn(
                id=f"chatcmpl-{self._number}",
                created=0,
                tenant="bench",
                model="echo",
                messages=(Message("user", "What is where, and since when? Please answer in one sentence."),),
                unit=f"user-{self._number}",
                unit_kind="user",
                wishes=wishes,
            )
            ticket = await self._parts.admission.enter()
            began = time.perf_counter()
            prepared = await prepare(turn, ticket, self._parts)
            took.append(time.perf_counter() - began)
            self.arms.add(prepared.plan.met.arm if prepared.plan.met.assigned else "none")
            await prepared.exposed
            ticket.leave()
        return statistics.median(took) * 1e6

    async def assignment(self, units: int) -> float:
        """Median microseconds of `assign` alone."""
        running = self._parts.experiments.in_force.running
        assert running is not None
        took = []
        for number in range(units):
            began = time.perf_counter()
            assign(running.experiment, f"user-{number}")
            took.append(time.perf_counter() - began)
        return statistics.median(took) * 1e6


async def measure(effort: Effort, say: Callable[[str], object]) -> Result:
    """Both arms in interleaved rounds, and assignment by itself."""
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as folder:
        async with opened(Path(folder)) as parts:
            requests = Requests(parts)
            off = replace(Wishes(), experiment="off")
            samples: dict[str, Sample] = {
                "experiment": partial(requests.sample, effort.requests, Wishes()),
                "as it came": partial(requests.sample, effort.requests, off),
            }
            for sample in samples.values():
                await sample()
            rounds = await interleave(samples, effort.rounds, say)
            alone = estimate([await requests.assignment(2000) for _ in range(5)])
            dropped = parts.journal.dropped
    cost = level(rounds, "experiment")
    return Result(
        goal="assign",
        title="Assignment, exposure and layout of a request in an experiment",
        workload=f"one short chat request at a time, {effort.requests} a sample, {effort.rounds} rounds",
        bars=[
            Bar(name="assignment + exposure + layout, median", measured=cost, unit="µs", must=MUST_US),
            Bar(name="assign alone, median", measured=alone, unit="µs", must=ASSIGN_US),
        ],
        ratio=ratio(rounds, "experiment", "as it came"),
        noise_floor=floor(rounds, "experiment", "as it came"),
        rounds=rounds,
        arms={name: {"us": level(rounds, name), "noise": noise(rounds, name)} for name in samples},
        checks=[
            Check(
                "both arms were met, and `off` met none",
                requests.arms == {"bench/plain", "bench/shown", "none"},
                ", ".join(sorted(requests.arms)),
            ),
            Check("no row was lost", dropped == 0, f"{dropped} rows"),
        ],
        machine=watch.describe(),
        plot=by_round(rounds, "µs", limit=MUST_US),
        notes=(
            "Tokenising is the echo's, one id a character: a model's tokenizer adds its own time with and "
            "without an experiment.",
        ),
    )


@click.command()
@goal_options
def command(quick: bool, out: Path, anyway: bool) -> None:
    """What an experiment costs a request before the engine."""
    measured(lambda say: measure(QUICK if quick else FULL, say), out=out, anyway=anyway)
