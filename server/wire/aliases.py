"""The turn of a request that names an alias: what the alias says where the request says nothing."""

from dataclasses import fields, replace
from typing import TypeVar

from server.aliases import Alias
from server.errors import UnsupportedParameter
from server.records import Sampling, Search, Turn, Wishes
from server.wire.extension import FileSearch
from server.wire.generation import Asked
from server.wire.reading import Context, Wire

T = TypeVar("T")
DRAWING = tuple(field.name for field in fields(Sampling))
# What an alias may lock → where a request would say it, the routes' several names together. `tools[]` is the
# file_search among the tools: functions are nothing that an alias brings.
LOCKS: dict[str, tuple[str, ...]] = {
    "template": ("fewshot.template", "prompt.id"),
    "variables": ("fewshot.variables", "prompt.variables"),
    "vector_stores": ("fewshot.vector_store_ids", "tools[].vector_store_ids"),
    "top": ("tools[].max_num_results",),
    "score_threshold": ("tools[].ranking_options.score_threshold",),
    "demos": ("fewshot.demos",),
    "sampling": DRAWING,
    "max_tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens"),
    "when_empty": ("fewshot.when_empty",),
    "refusal_text": ("fewshot.refusal_text",),
    "citations": ("fewshot.citations",),
}


def bound(turn: Turn, asked: Asked, context: Context) -> Turn:
    """The turn with all that its model's name stands for; as it was when that is no alias of the tenant.

    Raises UnsupportedParameter for a field that the alias locks.
    """
    alias = context.aliases.get(turn.model)
    if alias is None:
        return turn
    _refuse_locked(asked, alias)
    return replace(
        turn,
        base=alias.model,
        max_tokens=_first(turn.max_tokens, alias.max_tokens),
        sampling=_drawn(turn.sampling, alias.sampling),
        search=_searched(turn.search, alias),
        wishes=_wished(turn.wishes, alias),
    )


def _refuse_locked(asked: Asked, alias: Alias) -> None:
    for lock in sorted(alias.lock):
        for path in LOCKS[lock]:
            if (said := _said(asked, path)) is not None:
                raise _locked(said, alias)
    if "vector_stores" in alias.lock and getattr(asked, "tool_choice", None) == "none":
        raise _locked("tool_choice", alias)


def _locked(path: str, alias: Alias) -> UnsupportedParameter:
    return UnsupportedParameter(f"{path!r} is fixed by the alias {alias.name!r}; leave it out.", param=path)


def _said(asked: Wire, path: str) -> str | None:
    """Where the request itself gives a value for `path`; an empty list or object is none."""
    value: object = asked
    for step in path.split("."):
        name = step.removesuffix("[]")
        if not isinstance(value, Wire) or name not in value.model_fields_set:
            return None
        value = getattr(value, name)
        if isinstance(value, list) and name != step:
            at = next((at for at, tool in enumerate(value) if isinstance(tool, FileSearch)), None)
            if at is None:
                return None
            value, path = value[at], path.replace("[]", f"[{at}]", 1)
        if value in ([], {}):
            return None
    return path


def _drawn(said: Sampling, alias: Sampling) -> Sampling:
    return Sampling(**{name: _first(getattr(said, name), getattr(alias, name)) for name in DRAWING})


def _searched(said: Search, alias: Alias) -> Search:
    return replace(
        said,
        stores=said.stores if said.stores or said.off else alias.vector_stores,
        top=_first(said.top, alias.top),
        threshold=_first(said.threshold, alias.score_threshold),
    )


def _wished(said: Wishes, alias: Alias) -> Wishes:
    """The alias's values for slots are for its own template: another may not have them."""
    wishes = said
    if said.template is None and alias.template is not None:
        wishes = replace(said, template=alias.template, variables={**alias.variables, **said.variables})
    return replace(
        wishes,
        demos=_first(said.demos, alias.demos),
        when_empty=_first(said.when_empty, alias.when_empty),
        refusal_text=_first(said.refusal_text, alias.refusal_text),
        citations=_first(said.citations, alias.citations),
    )


def _first(said: T | None, otherwise: T | None) -> T | None:
    return otherwise if said is None else said
