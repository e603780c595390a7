"""What a token costs the processor in front of an engine that computes nothing: ours against bare vLLM (G2).

A saturated card is served by one process, and one core of it is the limit: so the processor time of a token
there decides how many tokens a second there are. Both arms are in that process and have vLLM's own front end
whole, with its process boundary, detokeniser, collectors and metrics; only the core behind it has no model.

A1  AsyncLLM.generate(), its deltas drained and dropped
A4  our server: HTTP, admission, journal, metrics, frames, sockets
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
from bench.records import Bar, Check, Curve, NotMeasured, Plot, Result
from bench.rounds import Interval, Rounds, floor, interleave, level, noise, ratio

# Streams → seconds of a step, ours ÷ bare at most (must, moon): the inverse of G2's bars at 8B and at 1B.
STEPS = {256: 0.012, 512: 0.012}
BARS = {256: (1 / 0.97, 1 / 0.99), 512: (1 / 0.85, 1 / 0.95)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    rounds: int
    tokens: int
    streams: tuple[int, ...]


QUICK = Effort(rounds=2, tokens=256, streams=(256,))
FULL = Effort(rounds=4, tokens=512, streams=(256, 512))


class Arms(saturation.Arms):
    """The same two arms, in µs of processor a token."""

    def __init__(self, host: Host, clients: Crowd, effort: saturation.Effort) -> None:
        super().__init__(host, clients, effort)
        self.tokens_per_second: dict[str, list[float]] = {"A1": [], "A4": []}

    async def cost(self, arm: str) -> float:
        rate = await (self.bare() if arm == "A1" else self.served())
        self.tokens_per_second[arm].append(rate)
        return self.cpu_us_per_token[arm][-1]


async def measure(effort: Effort, profiles: Path | None, say: Callable[[str], object]) -> Result:
    watch = Watch()
    bars: list[Bar] = []
    checks: list[Check] = []
    arms: dict[str, dict[str, Any]] = {}
    everything: dict[str, Rounds] = {}
    points: dict[str, dict[int, Interval]] = {"A1": {}, "A4": {}}
    floors: list[float] = []
    for streams in effort.streams:
        with front_host(streams, STEPS[streams]) as (opened, clients):
            work = Arms(
                opened,
                clients,
                saturation.Effort(rounds=effort.rounds, tokens=effort.tokens, streams=streams),
            )
            samples = {name: partial(work.cost, name) for name in ("A1", "A4")}
            say(f"{streams} streams: warming up")
            await interleave(samples, 1)
            if profiles is not None:
                for name, sample in samples.items():
                    text = await profiled(opened, sample)
                    (profiles / f"front-{streams}-{name}.profile.txt").write_text(text)
                continue
            for rates in work.tokens_per_second.values():
                rates.clear()
            rounds = await interleave(samples, effort.rounds, say)
        must, moon = BARS[streams]
        bars.append(
            Bar(
                name=f"processor time of a token, A4 ÷ A1, {streams} streams",
                measured=ratio(rounds, "A4", "A1"),
                must=must,
                moon=moon,
                resolution=floor(rounds, "A1"),
            )
        )
        checks += [
            replace(check, name=f"{streams} streams: {check.name}")
            for check in work.work.checks(work.client_share)
        ]
        for name in samples:
            cost = level(rounds, name)
            points[name][streams] = cost
            arms[f"{name}, {streams} streams"] = {
                "cpu_us_per_token": cost,
                "noise": noise(rounds, name),
                "tokens_per_second": sorted(work.tokens_per_second[name])[effort.rounds],
                "config": {"step_seconds": STEPS[streams], "output_tokens": effort.tokens},
            }
        everything[f"{streams}"] = rounds
        floors.append(floor(rounds, "A1"))
    if profiles is not None:
        raise NotMeasured(f"profiles are in {profiles}")
    return Result(
        goal="front",
        title="G2 without a card: a token's processor time through our server and through bare vLLM",
        workload=(
            f"{saturation.PROMPT_TOKENS} tokens in, {effort.tokens} out; vLLM's front end over a core that "
            f"gives every stream a token each step; {effort.rounds} rounds; journal and metrics on, auth off"
        ),
        bars=bars,
        ratio=bars[0].measured,
        noise_floor=max(floors),
        rounds=everything,
        arms=arms,
        checks=checks,
        machine=watch.describe(),
        plot=Plot(
            x="streams at once",
            y="µs of CPU a token",
            curves=[Curve(name=name, x=list(at), y=list(at.values())) for name, at in points.items()],
        ),
        notes=(
            "Bars are the inverse of G2's: where one core of the server's process is the limit, as on a card "
            "that is full, tokens a second are its inverse.",
            f"{ABOUT}.",
        ),
    )


@click.command()
@goal_options
@click.option(
    "--streams", multiple=True, type=click.Choice(list(map(str, STEPS))), help="These numbers only."
)
@click.option("--profile", is_flag=True, help="Write cProfile's view of both arms instead of measuring.")
def command(quick: bool, out: Path, anyway: bool, streams: tuple[str, ...], profile: bool) -> None:
    """Processor time of a token in front of an engine, against bare vLLM (G2 without a card)."""
    effort = QUICK if quick else FULL
    if streams:
        effort = replace(effort, streams=tuple(map(int, streams)))
    out.mkdir(parents=True, exist_ok=True)
    measured(lambda say: measure(effort, out if profile else None, say), out=out, anyway=anyway)
