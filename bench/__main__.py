"""python -m bench: one front for every benchmark. Each goal is imported only when it is asked for."""

import importlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import click

from bench.command import OUT, goal_options
from bench.report import page

PAGE = Path("docs/performance.md")
PLOTS = "plots"  # beside the page


class Goal(NamedTuple):
    command: str  # module:attribute
    about: str
    needs: str = (
        ""  # what is not in the repository; such a goal takes options of its own, and no part in `all`
    )


DATA = "data of yours"
GOALS = {
    "ttft": Goal("bench.goals.ttft:command", "G1: time to first token that our server adds to the engine"),
    "per_token": Goal("bench.goals.per_token:command", "G3: front-end CPU per streamed token"),
    "rag_tax": Goal("bench.goals.rag_tax:command", "G4: what retrieval adds to the time to first token"),
    "front": Goal(
        "bench.goals.front:command", "G2 without a card: a token's processor time, ours and bare vLLM's"
    ),
    "request": Goal(
        "bench.goals.request:command",
        "a request's own processor time, its tokens apart, ours and bare vLLM's",
    ),
    "overload": Goal("bench.goals.overload:command", "L1: goodput and refusals at twice the engine's load"),
    "neighbours": Goal(
        "bench.goals.neighbours:command", "L2, L7: what slow readers, files and a greedy key cost the others"
    ),
    "assign": Goal("bench.goals.assign:command", "assignment + exposure + layout of a request"),
    "ingest": Goal("bench.goals.ingest:command", "G10: text to searchable, against the encoder alone"),
    "encoder": Goal("bench.goals.encoder:command", "G11: the encoder's arithmetic against a bare product"),
    "scan": Goal("bench.goals.scan:command", "G8: exact search, against bandwidth and a bare product"),
    "ann": Goal(
        "bench.goals.ann:command", "G9: approximate search: recall, speed, filters, tombstones, reload"
    ),
    "touch": Goal("bench.goals.touch:command", "one document in and out of a large store; opening it"),
    "hybrid": Goal("bench.goals.hybrid:command", "G12: both legs against the slower one; bare tantivy"),
    "gpu": Goal(
        "bench.gpu.command:command",
        "G1, G2, G4, G5, G6, G13 at the size of real models, random weights, engines started once",
        "a card",
    ),
    "lora_tune": Goal(
        "bench.gpu.lora_tune:command", "launch settings of vLLM's LoRA kernels for this card", "a card"
    ),
    "frameworks": Goal(
        "bench.frameworks.command:command",
        "G14: what LangChain, LlamaIndex, Haystack and Fewshot add to a call",
        "a package index",
    ),
    "retrieval": Goal("bench.retrieval:main", "nDCG@10 of each retrieval leg and of both", DATA),
    "citations": Goal("bench.citations:main", "citations of generated answers against their documents", DATA),
    "adapters": Goal(
        "bench.adapters:main", "adapters under traffic: right answers, the cost of a load", DATA
    ),
    "served": Goal("bench.served:main", "served equals trained: every kind against Hugging Face", DATA),
    "soak": Goal("bench.soak:main", "L8: steady mixed load for an hour: what grows, what gets slower", DATA),
    "chaos": Goal("bench.chaos:main", "C1: everything at once, for hours; what was promised holds", DATA),
    "injections": Goal("bench.injections:main", "S12: instructions in documents, and who obeys them", DATA),
    "replay": Goal("bench.replay:main", "recorded answers, replayed alone: how many are identical", DATA),
    "population": Goal(
        "bench.population:main", "users at the real model: a better prompt found, a harmful one stopped", DATA
    ),
    "icl": Goal("bench.icl.command:command", "ways to choose worked examples, raw and calibrated", DATA),
    "follow_ups": Goal(
        "bench.follow_ups:main", "searches for follow-up questions: as asked, joined, rewritten", DATA
    ),
    "few_shot": Goal("bench.few_shot:main", "nearest worked examples against random and none", DATA),
}


class Goals(click.Group):
    """The goals, `all` and `page`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*GOALS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name) if cmd_name in GOALS else super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Goals"):
            formatter.write_dl([(name, goal.about) for name, goal in GOALS.items()])
        with formatter.section("Commands"):
            own = [(name, command.get_short_help_str()) for name, command in self.commands.items()]
            formatter.write_dl(own)


def load(name: str) -> click.Command:
    """The command of a goal."""
    module, _, attribute = GOALS[name].command.partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


@click.group(cls=Goals, invoke_without_command=True)
@click.option("--list", "listing", is_flag=True, help="One goal a line, with what it measures.")
@click.pass_context
def main(context: click.Context, listing: bool) -> None:
    """Measure. Exit code 0: every must is met; 1: one is missed; 2: the run is invalid."""
    if listing:
        for name, goal in GOALS.items():
            click.echo(f"{name:<12}{goal.about}" + (f" (needs {goal.needs})" if goal.needs else ""))
    elif context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command("all")
@goal_options
def every(quick: bool, out: Path, anyway: bool) -> None:
    """Every goal that needs nothing but this repository and its models."""
    options = [*(["--quick"] if quick else []), "--out", str(out), *(["--anyway"] if anyway else [])]
    worst = 0
    for name, goal in GOALS.items():
        if goal.needs:
            continue
        try:
            load(name).main(args=options, prog_name=f"bench {name}", standalone_mode=False)
        except SystemExit as ended:
            worst = max(worst, int(ended.code or 0))
    raise SystemExit(worst)


@main.command("page")
@click.option("--out", type=click.Path(exists=True, file_okay=False, path_type=Path), default=OUT)
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), default=PAGE, show_default=True)
def write_page(out: Path, to: Path) -> None:
    """Write docs/performance.md and its plots from the JSON of the last runs."""
    found = {name: out / f"{name}.json" for name in GOALS if (out / f"{name}.json").is_file()}
    results = [json.loads(file.read_text()) for file in found.values()]
    for file in sorted(out.glob("*/*.json")):  # of `gpu`, a folder a shape
        result = json.loads(file.read_text())
        shape, goal = file.parent.name, result["goal"]
        results.append({**result, "goal": f"{goal}-{shape}", "again": f"gpu --shape {shape} --goals {goal}"})
        found[f"{goal}-{shape}"] = file
    plots = {name: file.with_suffix(".svg") for name, file in found.items()}
    plots = {name: file for name, file in plots.items() if file.is_file()}
    (to.parent / PLOTS).mkdir(exist_ok=True)
    for name, file in plots.items():
        shutil.copyfile(file, to.parent / PLOTS / f"{name}.svg")
    to.write_text(page(results, list(plots)))


if __name__ == "__main__":
    main()
