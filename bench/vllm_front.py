"""vLLM's own front end over a null engine: its protocol, its stream generator, its server's stack.

    python -m bench.vllm_front --reply TEXT --interval SECONDS

What stands in for the engine yields one output a token, as our echo does. Left out of vLLM's side are its
engine client, its detokeniser and the rendering of the prompt, which all cost it more: nothing here is dearer
than in `vllm serve`. Requests come in through FastAPI, uvicorn, httptools and uvloop, as they do there.
"""

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bench.servers import Served, awaited, python_process

MODEL = "null"


@contextmanager
def vllm_front(reply: str, interval_seconds: float, folder: Path) -> Iterator[Served]:
    """The server in a process of its own; its log goes to `folder`. Raises ServerFailed."""
    arguments = ["-m", "bench.vllm_front", "--reply", reply, "--interval", str(interval_seconds)]
    with python_process(arguments, folder / "vllm.log") as (child, log):
        port = int(awaited(r"serving on 127\.0\.0\.1:(\d+)", child, log))
        yield Served(child.pid, port, MODEL)


def application(reply: str, interval_seconds: float) -> Any:
    """The ASGI application with the one route that is measured."""
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse
    from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
    from vllm.outputs import CompletionOutput, RequestOutput

    serving = OpenAIServingChat.__new__(OpenAIServingChat)  # its own making wants an engine
    about: dict[str, Any] = {
        "response_role": "assistant",
        "parser_cls": None,
        "request_logger": None,
        "system_fingerprint": None,
        "enable_force_include_usage": False,
        "enable_log_outputs": False,
        "enable_per_request_metrics": False,
        "enable_prompt_tokens_details": False,
        "_include_reasoning_tokens_details": False,
    }
    for name, value in about.items():
        setattr(serving, name, value)
    numbers = itertools.count()
    no_tokenizer: Any = None  # only log-probabilities and parsers of calls ask for one

    async def null(request_id: str, tokens: int) -> AsyncGenerator[Any]:
        text = (reply * (tokens // len(reply) + 1))[:tokens]
        prompt = [1] * 32
        began = time.monotonic()
        told = 0
        while told < tokens:
            until = told + 1
            if (
                interval_seconds and told
            ):  # by the clock, as our echo: what nobody fetched in time is one output
                waiting = began + told * interval_seconds - time.monotonic()
                if waiting > 0:
                    await asyncio.sleep(waiting)
                else:
                    until = min(until + int(-waiting / interval_seconds), tokens)
            said, told = text[told:until], until
            ends = told == tokens
            output = CompletionOutput(
                index=0,
                text=said,
                token_ids=list(map(ord, said)),
                cumulative_logprob=None,
                logprobs=None,
                finish_reason="length" if ends else None,
            )
            yield RequestOutput(request_id, None, prompt, None, [output], ends)

    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def create(request: ChatCompletionRequest) -> StreamingResponse:
        asked: Any = request
        request_id = f"chatcmpl-{next(numbers)}"
        said = serving.chat_completion_stream_generator(
            asked,
            null(request_id, asked.max_completion_tokens or asked.max_tokens),
            request_id,
            MODEL,
            [],
            no_tokenizer,
            RequestResponseMetadata(request_id=request_id),
        )
        return StreamingResponse(content=said, media_type="text/event-stream")

    return app


@click.command()
@click.option("--reply", required=True)
@click.option("--interval", "interval_seconds", type=float, default=0.0)
def main(reply: str, interval_seconds: float) -> None:
    """Serve until told to end."""
    import uvicorn
    import uvloop

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(2048)  # as uvicorn does; who comes early waits
    app = application(reply, interval_seconds)
    config = uvicorn.Config(app, log_level="warning", access_log=False, http="httptools")
    click.echo(f"serving on 127.0.0.1:{listening.getsockname()[1]}")
    uvloop.run(uvicorn.Server(config).serve(sockets=[listening]))


if __name__ == "__main__":
    main()
