"""L2 and L7 of the fault catalogue: what others do to those who ask as they should.

Nine keys ask a server at a steady rate, each answer timed from when it was due. Beside them, in turns:
nobody; readers who read as they should, and as many who take a byte a second; files that are attached one
after the other. Then, on a server whose places are all taken, a tenth key asks as much as each of the nine,
and ten times as much.
"""

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
import numpy as np

from bench.checks import below_its_core
from bench.client import chat
from bench.command import goal_options, measured
from bench.machine import Watch
from bench.open_loop import ask, closing, keyed, poisson
from bench.records import Bar, Check, Curve, Plot, Result
from bench.rounds import Interval, Rounds, floor, interleave, level, ratio
from bench.servers import fewshot_server
from indexer.database import open_database
from server.keys import Keys, read_secret

NINE = 9
TOKENS = 16
TOKEN_SECONDS = 0.03
PLACES = 16  # of the server that is full
AT_ONCE = 4  # requests that each of the nine has under way there
RECEIVE_BYTES = 4096
UPLOADERS = 2
DOCUMENT = "# A note\n\n" + "Ducks swim on ponds, and otters dive for carp. " * 600
MUST_SLOWER = 1.10
MUST_LOSE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    rounds: int
    seconds: float  # of a sample
    rate: float  # requests a second of the nine together
    readers: int


QUICK = Effort(rounds=1, seconds=5, rate=20, readers=20)
FULL = Effort(rounds=3, seconds=10, rate=40, readers=200)


class Neighbours:
    """Those who ask, and what is asked beside them."""

    def __init__(self, port: int, keys: list[str], effort: Effort) -> None:
        self._port, self._effort = port, effort
        self._keys = keys
        asked = (keyed(chat("echo", f"Question {n}?", TOKENS), keys[n]) for n in range(NINE))
        self._requests = [closing(one) for one in asked]
        self._seed = 0
        self.statuses: set[int] = set()
        self.share = 0.0  # of a core, that asking took at most
        self.files = 0

    async def steady(self) -> float:
        """The 99th percentile, in seconds, of the nine's answers from when each was due."""
        self._seed += 1
        times = poisson(self._effort.rate, self._effort.seconds, self._seed)
        clock, own = time.monotonic(), time.process_time()
        asking = []
        for number, offset in enumerate(times):
            await asyncio.sleep(max(0.0, clock + offset - time.monotonic()))
            asking.append(asyncio.create_task(ask(self._port, self._requests[number % NINE], clock + offset)))
        heard = await asyncio.gather(*asking)
        self.share = max(self.share, (time.process_time() - own) / (time.monotonic() - clock))
        self.statuses |= {one.status for one in heard}
        return float(np.quantile([one.seconds + one.late for one in heard], 0.99))

    async def beside(self, others: Callable[[], Awaitable[None]], many: int) -> float:
        """The same while `many` of the others do what they do, begun a second before."""
        at_work = [asyncio.create_task(_forever(others)) for _ in range(many)]
        try:
            await asyncio.sleep(1)
            return await self.steady()
        finally:
            for task in at_work:
                task.cancel()
            await asyncio.gather(*at_work, return_exceptions=True)

    async def read(self) -> None:
        """A long answer, read as it comes."""
        await ask(self._port, self._long)

    async def read_slowly(self) -> None:
        """A long answer, of which a byte is taken each second."""
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            connection.setblocking(False)
            await loop.sock_connect(connection, ("127.0.0.1", self._port))
            await loop.sock_sendall(connection, self._long)
            taken = b"-"
            while taken:
                taken, _ = await asyncio.gather(loop.sock_recv(connection, 1), asyncio.sleep(1))

    async def attach(self) -> None:
        """A document is uploaded, attached and read."""
        headers = {"authorization": f"Bearer {self._keys[-1]}"}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._port}/v1", headers=headers, timeout=120
        ) as http:
            store = (await http.post("/vector_stores", json={})).raise_for_status().json()["id"]
            while True:
                self.files += 1
                form = {"file": (f"{self.files}.md", f"{DOCUMENT} {self.files}")}
                sent = await http.post("/files", files=form, data={"purpose": "assistants"})
                file = sent.raise_for_status().json()["id"]
                asked = await http.post(f"/vector_stores/{store}/files", json={"file_id": file})
                asked.raise_for_status()
                state = "in_progress"
                while state == "in_progress":
                    await asyncio.sleep(0.05)
                    state = (await http.get(f"/vector_stores/{store}/files/{file}")).json()["status"]

    async def goodput(self, tenth: int) -> float:
        """Answers a second that the nine get while the tenth key has `tenth` requests under way."""
        ends = time.monotonic() + self._effort.seconds
        warm = time.monotonic() + 2 * TOKENS * TOKEN_SECONDS
        done = 0

        async def again(request: bytes, counts: bool) -> None:
            nonlocal done
            while time.monotonic() < ends:
                heard = await ask(self._port, request)
                if heard.status == 429:  # the queue is full: who is told so waits, as clients do
                    await asyncio.sleep(0.2)
                done += counts and heard.good and warm < heard.ended < ends

        greedy = closing(keyed(chat("echo", "More?", TOKENS), self._keys[-1]))
        mine = [again(request, True) for request in self._requests for _ in range(AT_ONCE)]
        await asyncio.gather(*mine, *(again(greedy, False) for _ in range(tenth)))
        return done / (ends - warm)

    @property
    def _long(self) -> bytes:
        tokens = int((self._effort.seconds + 2) / TOKEN_SECONDS)
        return closing(keyed(chat("echo", "At length?", tokens), self._keys[-1]))


async def measure(effort: Effort, say: Callable[[str], object]) -> Result:
    """Rounds on a server with room for everybody, then on one that is full."""
    watch = Watch()
    async with _served(effort, places=2 * effort.readers + 100) as roomy:
        await roomy.steady()  # warm
        rounds = await interleave(
            {
                "alone": roomy.steady,
                "fast readers": lambda: roomy.beside(roomy.read, effort.readers),
                "slow readers": lambda: roomy.beside(roomy.read_slowly, effort.readers),
                "files": lambda: roomy.beside(roomy.attach, UPLOADERS),
            },
            effort.rounds,
            say,
        )
    async with _served(effort, places=PLACES) as full:
        shares = await interleave(
            {
                "a tenth like the others": lambda: full.goodput(AT_ONCE),
                "a greedy tenth": lambda: full.goodput(10 * AT_ONCE),
            },
            effort.rounds,
            say,
        )
    slow = ratio(rounds, "slow readers", "fast readers")
    busy = floor(rounds, *rounds)
    return Result(
        goal="neighbours",
        title="L2, L7: what others cost those who ask as they should",
        workload=(
            f"Streams of {TOKENS} tokens from an echo at {TOKEN_SECONDS * 1e3:g} ms a token, of nine keys at "
            f"{effort.rate:g} a second, {effort.seconds:g} s a sample; {effort.readers} readers; {UPLOADERS} "
            f"who attach files of {len(DOCUMENT) // 1000} kB; {PLACES} places where a tenth key is greedy"
        ),
        bars=[
            Bar(name="p99 beside slow readers ÷ fast ones", measured=slow, must=MUST_SLOWER, resolution=busy),
            Bar(
                name="p99 while files are read ÷ alone",
                measured=ratio(rounds, "files", "alone"),
                must=MUST_SLOWER,
                resolution=busy,
            ),
            Bar(
                name="the nine's answers beside a greedy tenth ÷ beside one like them",
                measured=ratio(shares, "a greedy tenth", "a tenth like the others"),
                sense="at least",
                must=MUST_LOSE,
                resolution=floor(shares, *shares),
            ),
        ],
        ratio=slow,
        noise_floor=busy,
        rounds={**rounds, **shares},
        arms={
            **{name: {"p99_ms": level(rounds, name).value * 1e3} for name in rounds},
            **{name: {"answers_per_second": level(shares, name).value} for name in shares},
            "files read": {"files": roomy.files},
        },
        checks=[
            Check("the nine were always answered where there is room", roomy.statuses == {200}),
            Check("files were read", roomy.files > 0, f"{roomy.files}"),
            below_its_core(max(roomy.share, full.share)),
        ],
        machine=watch.describe(),
        plot=Plot(
            x="round",
            y="p99 of the nine, ms",
            curves=[_curve(name, rounds) for name in rounds],
        ),
        notes=("The client that asks and reads shares the cores with the server.",),
    )


def _curve(name: str, rounds: Rounds) -> Curve:
    """Each round's mean between its two samples, ms."""
    pairs = rounds[name]
    values = [Interval(pair.mean * 1e3, min(pair) * 1e3, max(pair) * 1e3) for pair in pairs]
    return Curve(name=name, x=[float(number + 1) for number in range(len(pairs))], y=values)


@asynccontextmanager
async def _served(effort: Effort, places: int) -> AsyncIterator[Neighbours]:
    """A server with so many places in its engine, and keys for ten."""
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as data:
        database = open_database(Path(data) / "journal.db")
        known = Keys(database, pepper=read_secret(Path(data)))
        keys = [known.create(tenant=f"t{n}", scopes=["infer", "files"]) for n in range(NINE + 1)]
        database.dispose()
        settings = {
            "FEWSHOT_DATA_DIR": data,
            "FEWSHOT_EMBEDDER": "hash",
            "FEWSHOT_AUTH_ENABLED": "true",
            "FEWSHOT_SERVER_RUNNING": str(places),
            "FEWSHOT_SERVER_QUEUE": "64",
            "FEWSHOT_ENGINE_ECHO_REPLY": "Nothing is lost. ",
            "FEWSHOT_ENGINE_ECHO_INTERVAL_SECONDS": str(TOKEN_SECONDS),
        }
        with fewshot_server(settings, "--echo") as (_, port):
            yield Neighbours(port, keys, effort)


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        with contextlib.suppress(OSError):
            await work()


@click.command()
@goal_options
def command(quick: bool, out: Path, anyway: bool) -> None:
    """What slow readers, files and a greedy key cost those who ask as they should (L2, L7)."""
    effort = QUICK if quick else FULL
    measured(lambda say: measure(effort, say), out=out, anyway=anyway)
