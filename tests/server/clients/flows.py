"""What a script of flows shares: the list of them, running them all, and saying in JSON what failed.

The scripts run in environments that hold the framework alone, with the checkout on the path:

    PYTHONPATH=. python tests/server/clients/langchain_flows.py http://127.0.0.1:8000 KEY
"""

import asyncio
import contextlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, NamedTuple

import openai

CALL = '<tool_call>{"name": "weather", "arguments": {"town": "Oslo"}}</tool_call>'  # the echo plays it
SLEEP = b"Cats sleep for thirteen hours a day and hunt at dusk."


class Server(NamedTuple):
    """Where to ask: `url` ends in /v1."""

    url: str
    key: str

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=self.key, max_retries=0)

    def store(self) -> str:
        """The id of a new vector store that holds SLEEP."""
        with self.client() as client:
            store = client.vector_stores.create(name="facts").id
            file = client.vector_stores.files.upload_and_poll(vector_store_id=store, file=("cats.txt", SLEEP))
        assert file.status == "completed", file.last_error
        return store


Flow = Callable[[Server], Any]
FLOWS: dict[str, Flow] = {}


def flow(run: Flow) -> Flow:
    FLOWS[run.__name__] = run
    return run


@contextlib.contextmanager
def refused(param: str, *, message: str = "") -> Iterator[None]:
    """The block ends in a 400 that names the parameter; whatever a framework wraps it in."""
    met: BaseException | None = None
    try:
        yield
    except Exception as error:
        met = error
    while met is not None and not isinstance(met, openai.BadRequestError):
        met = met.__cause__ or met.__context__
    assert met is not None, f"no 400 for {param}"
    assert met.param == param, met
    assert message in met.message, met


async def _run(server: Server) -> dict[str, str]:
    failed = {}
    for name, run in FLOWS.items():
        try:
            done = run(server)
            if inspect.isawaitable(done):
                await done
        except Exception as problem:
            failed[name] = repr(problem)
    return failed


def main(*packages: str) -> None:
    """Run every flow against the server of the command line; write a report as one line of JSON."""
    failed = asyncio.run(_run(Server(f"{sys.argv[1]}/v1", sys.argv[2])))
    report = {"versions": {name: version(name) for name in packages}, "flows": len(FLOWS), "failed": failed}
    sys.stdout.write(json.dumps(report))
