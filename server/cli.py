"""The `fewshot` command: parses, calls one function, prints. Heavy libraries load with their command."""

import importlib
import os
from pathlib import Path
from typing import Any

import click

from server.refusal import Refusal
from server.settings import Settings, SettingsRefused, load_settings

# command → module:attribute; the module is imported only when the command is used.
LAZY = {
    "adapters": "server.adapting:adapters",
    "ask": "server.asking:ask",
    "catalogue": "indexer.commands.catalogue:catalogue",
    "doctor": "server.doctor:doctor",
    "erase": "server.erasing:erase",
    "evaluate": "server.measuring.command:evaluate",
    "experiment": "server.experimenting:experiment",
    "export": "server.exporting:export",
    "ingest": "indexer.commands.ingest:ingest",
    "keys": "server.administration:keys",
    "ladder": "training.cli:ladder",
    "models": "server.administration:models",
    "prompts": "server.searching:prompts",
    "replay": "server.replay_command:replay",
    "search": "indexer.commands.search:search",
    "serve": "server.serving:serve",
    "settings": "server.administration:settings",
    "stores": "indexer.commands.stores:stores",
    "train": "training.commands:train",
    "verify": "indexer.commands.verify:verify",
}
ABOUT = {  # so that `fewshot --help` imports nothing
    "adapters": "Load trained adapters into the running server, name them, go back.",
    "ask": "Ask a question of your documents.",
    "catalogue": "Show where the catalogue is, or move it to PostgreSQL.",
    "doctor": "Check everything a server needs.",
    "evaluate": "Run arms over a data set: quality, calibration, cost.",
    "erase": "Delete from the stores, the disk and the journal.",
    "experiment": "Experiments on live traffic: report, promote, stop, roll back.",
    "export": "Write the journal as JSONL: outcomes, training data, worked examples.",
    "ingest": "Chunk, embed and index files and folders.",
    "keys": "Create, list and revoke API keys.",
    "ladder": "Measure every way of adapting a model on your data.",
    "models": "Fetch the default models.",
    "prompts": "Templates and pools of worked examples: look, check, build, search.",
    "replay": "Decode an answer again and compare.",
    "search": "Search a store.",
    "serve": "Serve the OpenAI-compatible endpoint.",
    "settings": "Show every setting and where it comes from.",
    "stores": "List the stores, look into one, delete from it.",
    "train": "Train an adapter from exported answers.",
    "verify": "Check that catalogue and indexes agree.",
}


# Commands of `fewshot stores`: click asks each for defaults of its own.
OF_STORES = ("cancel", "delete", "discard", "index", "migrate", "purge", "rollback", "show")


class LazyGroup(click.Group):
    """Commands by name; each is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(ABOUT)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ABOUT:
            return None
        module, _, attribute = LAZY[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(ABOUT.items()))


@click.group(cls=LazyGroup)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file instead of ./fewshot.toml (or FEWSHOT_CONFIG).",
)
@click.version_option(package_name="fewshot")
@click.pass_context
def main(context: click.Context, config: Path | None) -> None:
    """One OpenAI-compatible endpoint for a language model, worked examples and your documents."""
    try:
        settings = load_settings(config)
    except SettingsRefused as problem:
        if context.invoked_subcommand != "doctor":
            raise Refusal(str(problem)) from None
        context.obj = problem  # it is what the doctor has to say
        return
    context.obj = settings
    context.default_map = defaults_of(settings)
    # Read by libraries at their import, here and in child processes.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def defaults_of(settings: Settings) -> dict[str, Any]:
    """What the settings file means to the rooms that know no settings: defaults of their options."""
    common = {
        "data": str(settings.paths.data),
        "cache": str(settings.paths.cache),
        "embedder": settings.retrieval.embedder,
    }
    commands: dict[str, Any] = {command: common for command in ("ingest", "search", "verify")}
    return {**commands, "stores": {**common, **dict.fromkeys(OF_STORES, common)}}


if __name__ == "__main__":
    main()
