"""What a search found, as JSON, as Markdown and as a plot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from prompts.analysis.paired import Interval, mcnemar, wilson
from prompts.search.running import DISCORDANT, Found, smallest_gain
from prompts.search.splits import Splits


def as_json(found: Found, splits: Splits, about: dict[str, Any]) -> dict[str, Any]:
    """Everything, every score included: free data for whoever wants to know more."""
    return {
        **about,
        "splits": {
            "demos": len(splits.demos),
            "search": len(splits.search),
            "held_out": len(splits.held_out),
            "dropped": splits.dropped,
        },
        "winner": {"name": found.winner.name, "digest": found.winner.template.digest},
        "candidates": [
            {
                "name": one.name,
                "proposer": one.proposer,
                "digest": one.template.digest,
                "system": one.template.parts.get("system", ""),
                "demos": [demo.input for demo in one.template.demos],
                "search_accuracy": _interval(found.search_accuracy.get(one.name)),
            }
            for one in found.candidates
        ],
        "refused": [{"text": text, "because": because} for text, because in found.refused.items()],
        "races": [
            {
                "name": name,
                "candidates": [one.name for one in candidates],
                "dropped_after": {candidates[at].name: items for at, items in run.dropped.items()},
                "asked": run.asked,
                "full_price": int(run.scores.size),
                "scores": [
                    [None if math.isnan(value) else value for value in row] for row in run.scores.tolist()
                ],
            }
            for name, candidates, run in found.races
        ],
        "held_out": {
            name: {"accuracy": _interval(wilson(int(sum(scores)), len(scores))), "right": list(scores)}
            for name, scores in found.held_out.items()
        },
        "claims": {
            name: {
                "difference": _interval(test.difference),
                "only_winner": test.only_first,
                "only_other": test.only_second,
                "p": test.p,
                "p_holm": p,
            }
            for name, (test, p) in found.claims.items()
        },
        "tokens": found.tokens,
    }


def markdown(found: Found, splits: Splits, about: dict[str, Any]) -> str:
    items = len(splits.held_out)
    lines = [
        f"# {about['template']}: a search for better wording",
        "",
        f"{about['model']}; {len(splits.search)} search items, {items} held-out items, opened "
        f"{about['openings']} time{'s' if about['openings'] != 1 else ''} so far; seed {about['seed']}. With "
        f"{items} items a gain of {smallest_gain(items):.3f} can be shown (power 0.8, "
        f"{DISCORDANT:.0%} of items answered unlike).",
        "",
        f"**{verdict(found)}**",
        "",
        "| on held-out items | accuracy | winner − this | McNemar p |",
        "|---|---|---|---|",
    ]
    for name, scores in found.held_out.items():
        test = mcnemar(found.held_out["winner"], scores)
        against = "" if name == "winner" else f"{_signed(test.difference)} | {_p(test.p)}"
        title = f"winner: {found.winner.name}" if name == "winner" else name
        lines.append(f"| {title} | {_plain(wilson(int(sum(scores)), len(scores)))} | {against or '|'} |")
    lines += ["", "| candidate | search accuracy | dropped after | race |", "|---|---|---|---|"]
    for name, candidates, run in found.races:
        for at, one in enumerate(candidates):
            seen = run.scores[~np.isnan(run.scores[:, at]), at]
            accuracy = _plain(wilson(int(seen.sum()), len(seen))) if len(seen) else ""
            gone = f"{run.dropped[at]} items" if at in run.dropped else ""
            lines.append(f"| {one.name} | {accuracy} | {gone} | {name} |")
    spent = ", ".join(f"{name} {tokens:,}" for name, tokens in found.tokens.items())
    shares = ", ".join(f"{name} {run.asked / run.scores.size:.0%}" for name, _, run in found.races)
    lines += ["", f"Prompt tokens: {spent}. Scores asked, of all that there are: {shares}.", ""]
    system = str(found.winner.template.parts.get("system", ""))
    lines += ["```", *(system or "(no instruction)").splitlines(), "```"]
    shown = [f"- {demo.input} → {demo.label or demo.output}" for demo in found.winner.template.demos]
    return "\n".join([*lines, *(["", "Shown to every question:", "", *shown] if shown else [])]) + "\n"


def verdict(found: Found) -> str:
    """What may be claimed, in a sentence."""
    if found.winner.proposer == "original":
        return "The original wording was not beaten on the search items; there is no new version."
    said = []
    for name, (test, p) in found.claims.items():
        gain = test.difference.mean
        word = "not proven better than" if p >= 0.05 else "better than" if gain > 0 else "worse than"
        said.append(f"{word} {'the original' if name == 'original' else name} ({gain:+.3f}, p {_p(p)})")
    return f"The winner is {'; '.join(said)} on held-out items."


def plot(found: Found, path: Path) -> None:
    """Accuracy on the search items seen by tokens spent, crosses where candidates left; held-out items."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for at, (name, candidates, run) in enumerate(found.races[:2]):  # random rewrites spent other tokens
        looks = [look for look in found.curve if look["race"] == name]
        for who, one in enumerate(candidates):
            path_of = [
                (look["tokens"], look["accuracies"][one.name])
                for look in looks
                if one.name in look["accuracies"]
            ]
            if not path_of:
                continue
            left.plot(*zip(*path_of, strict=True), color=f"C{at}", lw=1, alpha=0.7, marker=".", ms=3)
            if who in run.dropped:
                left.plot(*path_of[-1], marker="x", color=f"C{at}", ms=6)
        left.plot([], [], color=f"C{at}", label=name)
    left.set_xlabel("prompt tokens spent")
    left.set_ylabel("accuracy on the search items seen")
    left.legend(frameon=False)
    left.grid(alpha=0.25)
    names = list(found.held_out)
    shares = [wilson(int(sum(found.held_out[name])), len(found.held_out[name])) for name in names]
    spans = [[one.mean - one.low for one in shares], [one.high - one.mean for one in shares]]
    right.errorbar(
        [one.mean for one in shares], range(len(names)), xerr=spans, fmt="o", color="#333333", capsize=3
    )
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set_xlabel("accuracy on held-out items")
    right.grid(alpha=0.25)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _interval(value: Interval | None) -> dict[str, float] | None:
    return None if value is None else value._asdict()


def _plain(value: Interval) -> str:
    return f"{value.mean:.3f} ({value.low:.3f}–{value.high:.3f})"


def _signed(value: Interval) -> str:
    return f"{value.mean:+.3f} ({value.low:+.3f} .. {value.high:+.3f})"


def _p(value: float) -> str:
    return f"= {value:.4f}" if value >= 0.0001 else "< 0.0001"
