"""The server's process over a core that computes nothing, and its clients."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.crowd import Crowd, crowd
from bench.front.decoder import null_decoder
from bench.host import Host, host
from indexer.machine import cores
from server.models import locate
from server.settings import load_settings

MODEL = "smollm2-135m-instruct"


@contextmanager
def front_host(streams: int, step_seconds: float) -> Iterator[tuple[Host, Crowd]]:
    """At most `streams` sequences at once, each with a token every `step_seconds`. Raises HostFailed."""
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as data, ExitStack() as stack:
        settings = load_settings(
            environ={},
            overrides={
                "paths": {"data": data},
                "server": {"port": 0, "queue": 4096, "running": streams},
                "retrieval": {"embedder": "hash"},
                "engine": {"kind": "echo", "context": 4096, "batch": streams},
            },
        )
        model = locate(MODEL, load_settings().paths.cache / "models")
        opener = partial(null_decoder, model=str(model), step_seconds=step_seconds)
        yield stack.enter_context(host(settings, opener)), stack.enter_context(crowd(max(1, cores() // 2)))
