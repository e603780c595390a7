"""The arms: a framework's process, and our own client; what they were told and what it cost."""

import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.frameworks.environments import HERE, bare_environment
from bench.processor import seconds
from bench.records import NotMeasured
from bench.rounds import Pair, Sample


class Told(NamedTuple):
    """All questions, asked once."""

    seconds: Sequence[float]
    processor: float  # seconds, of the asking process
    told: Sequence[tuple[str, Sequence[str]]]  # answer, ids of its sources


class Framework:
    """A framework's process, which asks all questions whenever it is told to."""

    def __init__(self, name: str, python: Path, job: Mapping[str, Any]) -> None:
        script = HERE / "arms" / f"with_{name}.py"
        self._name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._child = subprocess.Popen(
            [str(python), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=bare_environment(),
        )
        self._tell(json.dumps(job))
        self._hear()

    def ask(self) -> Told:
        self._tell("again")
        said = self._hear()
        return Told(said["seconds"], said["processor"], [(text, ids) for text, ids in said["told"]])

    def close(self) -> None:
        """End of its questions; a minute later it is made to end."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        try:
            self._child.wait(60)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()
        self._log.close()

    def _tell(self, line: str) -> None:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; whoever listens next says why
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()

    def _hear(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            self._child.wait(60)
            self._log.seek(0)
            last = self._log.read()[-1500:].decode(errors="replace")
            self.close()
            raise NotMeasured(f"{self._name} ended: {last}")
        return json.loads(line)


class Direct:
    """Requests of our own client: one kept connection, bodies built before the clock runs."""

    def __init__(self, port: int, bodies: Sequence[bytes]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._bodies = bodies

    def ask(self) -> Told:
        spent, answers, began = [], [], time.process_time()
        for body in self._bodies:
            asked = time.perf_counter()
            self._connection.request(
                "POST", "/v1/chat/completions", body, {"content-type": "application/json"}
            )
            said = self._connection.getresponse().read()
            spent.append(time.perf_counter() - asked)
            answers.append(said)
        processor = time.process_time() - began
        return Told(spent, processor, [_heard(json.loads(said)) for said in answers])

    def close(self) -> None:
        self._connection.close()


class Arms:
    """Samples of every arm; keeps what was answered, and the processor time beside the clock."""

    def __init__(self, server: int) -> None:
        self._server = server  # process id
        self.processor: dict[str, list[float]] = {}  # ms a question, asking process and server
        self.told: dict[str, Sequence[tuple[str, Sequence[str]]]] = {}

    def sample(self, name: str, arm: Framework | Direct) -> Sample:
        async def once() -> float:
            before = seconds(self._server)
            told = arm.ask()
            spent = told.processor + seconds(self._server) - before
            self.processor.setdefault(name, []).append(1e3 * spent / len(told.seconds))
            self.told[name] = told.told
            return 1e3 * float(np.median(told.seconds))

        return once

    def rounds(self) -> dict[str, list[Pair]]:
        """The processor's samples as rounds; what was asked to warm up, first, is none of them."""
        return {
            name: [Pair(first, second) for first, second in zip(all_of[1::2], all_of[2::2], strict=True)]
            for name, all_of in self.processor.items()
        }


def _heard(said: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    if "error" in said:
        raise NotMeasured(f"the server refused a request: {said['error']['message']}")
    sources = said["fewshot"]["sources"]
    return said["choices"][0]["message"]["content"], [one["chunk_id"] for one in sources]
