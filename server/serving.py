"""`fewshot serve`: the command. What it runs is in `server/running.py`, which is heavy to import."""

import click

from server.models import ModelUnavailable, locate
from server.refusal import Refusal
from server.settings import Settings, SettingsRefused, overridden


@click.command()
@click.option("--host", help="Address to listen on (server.host).")
@click.option("--port", type=int, help="Port to listen on, 0 for a free one (server.port).")
@click.option("--model", help="Model to decode with (engine.model).")
@click.option("--echo", is_flag=True, default=None, help="Answer without a model (engine.kind = echo).")
@click.pass_obj
def serve(
    settings: Settings, host: str | None, port: int | None, model: str | None, echo: bool | None
) -> None:
    """Serve the OpenAI-compatible endpoint until SIGTERM or Ctrl-C."""
    try:
        settings = overridden(
            settings,
            {
                "server": {"host": host, "port": port},
                "engine": {"model": model, "kind": "echo" if echo else None},
            },
        )
        if settings.engine.kind == "vllm":
            locate(settings.engine.model, settings.paths.cache / "models")  # before a port is open
    except (SettingsRefused, ModelUnavailable) as problem:
        raise Refusal(str(problem)) from None
    from server.running import run  # brings faiss and tantivy, which `--help` need not wait for

    raise SystemExit(run(settings))
