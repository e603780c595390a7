"""Which goal of the performance design has which command, on which machine, and which have none."""

from collections.abc import Collection
from typing import NamedTuple


class Covered(NamedTuple):
    """One of the goals G1 to G14."""

    goal: str
    about: str
    command: str = ""  # under `python -m bench`; none: nothing here measures it
    card: str = ""  # what of it only a GPU machine can tell
    measured_as: str = ""  # by `gpu`, which measures several: the goal's name there


COVERED = (
    Covered("G1", "time to first token that the server adds", "ttft", "bar in ms: `gpu`"),
    Covered("G2", "saturated tokens a second against the bare engine", "gpu", "all of it", "saturation"),
    Covered("G3", "front-end processor time of a streamed token", "per_token", "–"),
    Covered("G4", "what retrieval adds to the time to first token", "rag_tax", "bar in ms: `gpu`"),
    Covered(
        "G5", "goodput at limits of latency", "gpu", "all of it (`overload` tells the echo's)", "goodput"
    ),
    Covered("G6", "share of the shareable prefix that is cached, and its gain", "gpu", "the gain", "prefix"),
    Covered("G7", "reuse of the cache of chunks that are no prefix", card="all of it; needs LMCache"),
    Covered("G8", "exact vector search against bandwidth and a product", "scan", "the card's half of it"),
    Covered("G9", "approximate search: recall, speed, filters, tombstones", "ann", "the card's half of it"),
    Covered("G10", "text to searchable against the bare encoder", "ingest", "bar of 0.75"),
    Covered("G11", "encoder arithmetic against the processor's limit", "encoder", "bar of 0.20"),
    Covered("G12", "hybrid search against its slower leg, keywords against tantivy", "hybrid"),
    Covered("G13", "adapters: throughput, load, stalls", "adapters", "bars at 8B: `gpu`"),
    Covered(
        "G14",
        "non-LLM time against LangChain, LlamaIndex and Haystack",
        "frameworks",
        "requests a second at 1B",
    ),
)


def table(measured: Collection[str]) -> str:
    """Markdown; `measured` are the goals with figures on the page, those of `gpu` with their shape behind."""
    lines = [
        "| goal | what | command | figures here | needs a card |",
        "|---|---|---|---|---|",
    ]
    for goal, about, command, card, measured_as in COVERED:
        shown = f"`python -m bench {command}`" if command else "none yet"
        name = measured_as or command
        here = any(one == name or (measured_as and one.startswith(f"{name}-")) for one in measured)
        lines.append(f"| {goal} | {about} | {shown} | {'yes' if here else 'no'} | {card or '–'} |")
    return "\n".join(lines)
