"""Figures as lines for people and as JSON for programs."""

from collections.abc import Mapping
from typing import Any

from prompts.analysis.paired import Interval


def lines_of(figures: Mapping[str, Any], items: int) -> list[str]:
    lines = [
        f"{title:<19}{_plain(figures[key])}"
        for key, title in (
            ("accuracy", "accuracy"),
            ("exact_match", "exact match"),
            ("f1", "token F1"),
            ("refused", "refused"),
            ("citation_precision", "citation precision"),
        )
        if figures.get(key) is not None
    ]
    if "macro_f1" in figures:
        lines.insert(1, f"{'macro F1':<19}{figures['macro_f1']:.3f}")
    if errors := figures.get("calibration_error"):
        lines.append(
            f"{'calibration error':<19}{errors['arm']:.3f} (raw {errors['raw']:.3f}, "
            f"with temperature {errors['with_temperature']:.3f})"
        )
    if figures.get("unknown_labels"):
        lines.append(
            f"{'unknown labels':<19}{figures['unknown_labels']} items carry a label the template lacks"
        )
    done = max(items - figures["failed"], 1)
    prompt, cached, said = (figures[f"{kind}_tokens"] / done for kind in ("prompt", "cached", "completion"))
    lines.append(
        f"{'cost of an item':<19}{prompt:.0f} prompt tokens ({cached:.0f} cached), {said:.0f} answered; "
        f"{figures['seconds_median'] or 0:.2f} s; {figures['seconds']:.0f} s in all"
    )
    if figures["failed"]:
        lines.append(f"{'failed':<19}{figures['failed']}: {'; '.join(figures['failures'])}")
    return lines


def against(row: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{'right':<19}{_signed(row['difference'])}; only this {row['only_this_right']}, only that "
        f"{row['only_that_right']}; McNemar p = {row['p']:.4f}, by Holm {row['p_holm']:.4f}: proven "
        f"{row['proven']}"
    ]
    if "f1_difference" in row:
        lines.append(
            f"{'token F1':<19}{_signed(row['f1_difference'])}; sign flips p = {row['f1_p']:.4f}, by Holm "
            f"{row['f1_p_holm']:.4f}: proven {row['f1_proven']}"
        )
    return lines


def named(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Intervals as objects: a reader of JSON need not know their order."""
    return {key: value._asdict() if hasattr(value, "_asdict") else value for key, value in figures.items()}


def _plain(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.mean:.3f} ({interval.low:.3f}–{interval.high:.3f})"


def _signed(interval: Interval) -> str:
    return f"{interval.mean:+.3f} ({interval.low:+.3f} .. {interval.high:+.3f})"
