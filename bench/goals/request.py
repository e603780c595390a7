"""What a request costs the thread that answers it, its tokens apart: ours against bare vLLM (G1, G2, G14).

Requests that come together wait for each other's processor time in that one thread, so it decides what is
added to their time to first token. The arms and the engine that computes nothing are those of `front`;
answers are so short that little but the request itself is measured.

A1  AsyncLLM.generate(), its deltas drained and dropped
A4  our server: HTTP, admission, journal, metrics, frames, sockets
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.command import goal_options, measured
from bench.crowd import Crowd
from bench.front.opening import front_host
from bench.front.profiling import profiled
from bench.gpu import saturation
from bench.gpu.bare import ABOUT
from bench.host import Host
from bench.machine import Watch
from bench.records import Bar, NotMeasured, Result, by_round
from bench.rounds import estimate, floor, interleave, level, noise, ratio

STEP_SECONDS = 0.012


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    rounds: int
    requests: int
    streams: int = 16
    tokens: int = 2


QUICK = Effort(rounds=3, requests=256)
FULL = Effort(rounds=7, requests=1024)


class Arms(saturation.Arms):
    """The same two arms, in µs of processor a request: of the loop's thread, and of the whole process."""

    def __init__(self, host: Host, clients: Crowd, effort: Effort) -> None:
        asked = saturation.Effort(
            rounds=effort.rounds, tokens=effort.tokens, streams=effort.streams, requests=effort.requests
        )
        super().__init__(host, clients, asked)
        self._opened = host
        self._each = effort
        self.process_us: dict[str, list[float]] = {"A1": [], "A4": []}

    async def cost(self, arm: str) -> float:
        """µs of the loop's thread a request."""
        began = await self._opened.call(thread_seconds)
        await (self.bare() if arm == "A1" else self.served())
        spent: float = await self._opened.call(thread_seconds) - began
        self.process_us[arm].append(self.cpu_us_per_token[arm][-1] * self._each.tokens)
        return spent / self._each.requests * 1e6


async def thread_seconds(decoder: Any) -> float:
    """Processor time of the thread that runs the loop."""
    return time.thread_time()


async def measure(effort: Effort, profiles: Path | None, say: Callable[[str], object]) -> Result:
    watch = Watch()
    with front_host(effort.streams, STEP_SECONDS) as (opened, clients):
        arms = Arms(opened, clients, effort)
        samples = {name: partial(arms.cost, name) for name in ("A1", "A4")}
        say("warming up")
        await interleave(samples, 1)
        if profiles is not None:
            for name, sample in samples.items():
                (profiles / f"request-{name}.profile.txt").write_text(await profiled(opened, sample))
            raise NotMeasured(f"profiles are in {profiles}")
        for spent in arms.process_us.values():
            spent.clear()
        rounds = await interleave(samples, effort.rounds, say)
    measured_ratio = ratio(rounds, "A4", "A1")
    return Result(
        goal="request",
        title="a request's own processor time in the thread that answers, through our server and bare vLLM",
        workload=(
            f"{saturation.PROMPT_TOKENS} tokens in, {effort.tokens} out, {effort.streams} at once, "
            f"{effort.requests} requests a sample; vLLM's front end over a core that gives every stream a "
            f"token each step; {effort.rounds} rounds; journal and metrics on, auth off"
        ),
        bars=[
            Bar(
                name="processor time of a request, A4 ÷ A1",
                measured=measured_ratio,
                resolution=floor(rounds, "A1"),
            )
        ],
        ratio=measured_ratio,
        noise_floor=floor(rounds, "A1"),
        rounds=rounds,
        arms={
            name: {
                "thread_us_per_request": level(rounds, name),
                "process_us_per_request": estimate(arms.process_us[name]),
                "noise": noise(rounds, name),
            }
            for name in samples
        },
        checks=arms.work.checks(arms.client_share),
        machine=watch.describe(),
        plot=by_round(rounds, "µs of the loop's thread a request"),
        notes=(
            "The thread is the one of the event loop; the process is all threads, the journal's too.",
            f"{ABOUT}.",
        ),
    )


@click.command()
@goal_options
@click.option("--profile", is_flag=True, help="Write cProfile's view of both arms instead of measuring.")
def command(quick: bool, out: Path, anyway: bool, profile: bool) -> None:
    """Processor time of a request in the thread that answers it, against bare vLLM."""
    out.mkdir(parents=True, exist_ok=True)
    effort = QUICK if quick else FULL
    measured(lambda say: measure(effort, out if profile else None, say), out=out, anyway=anyway)
