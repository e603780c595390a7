"""`/v1/adapters` and vLLM's two routes: bodies in, objects out (openai-surface §11)."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from server.adapters.book import Moved, Step
from server.adapters.registry import Listed
from server.wire.fields import (
    ADAPTERS,
    LOAD_LORA,
    NO_FIELDS,
    PROMOTE,
    ROLLBACK,
    UNLOAD,
    UNLOAD_LORA,
    Class,
)
from server.wire.reading import Off, Wire, read_body

Name = Annotated[str, Field(min_length=1, max_length=128)]
Reason = Annotated[str, Field(max_length=1_000)]


class AdapterRequest(Wire):
    name: Name
    version: Name | None = Field(
        None, description="12 hex digits; of an artefact that is in place, or must be"
    )
    inbox: Name | None = Field(None, description="name of a folder in adapters.inbox to copy in")


class Nothing(Wire):
    """`{}`, or no body."""


class UnloadRequest(Wire):
    drain_seconds: Annotated[float, Field(ge=0, le=3_600)] = 30.0


class PromoteRequest(Wire):
    alias: Name
    reason: Reason | None = None


class RollbackRequest(PromoteRequest):
    """Back to what the alias meant before."""


class LoadLoraRequest(Wire):
    """As vLLM has it."""

    lora_name: Name
    lora_path: Annotated[str, Field(min_length=1, max_length=1_024)]
    load_inplace: Off = False
    is_3d_lora_weight: Off = False


class UnloadLoraRequest(Wire):
    lora_name: Name
    lora_int_id: int | None = None


TABLES: Mapping[type[Wire], Mapping[str, Class]] = {
    AdapterRequest: ADAPTERS,
    Nothing: NO_FIELDS,
    UnloadRequest: UNLOAD,
    PromoteRequest: PROMOTE,
    RollbackRequest: ROLLBACK,
    LoadLoraRequest: LOAD_LORA,
    UnloadLoraRequest: UNLOAD_LORA,
}


def adapter_object(listed: Listed, base: str) -> dict[str, Any]:
    """One version as it stands on this server. `base` is the base model's served name."""
    entry, live = listed.entry, listed.live
    artefact = entry.artefact
    status = live.state if live else ("failed" if entry.error else "available")
    return {
        "id": artefact.reference,
        "object": "adapter",
        "created_at": int(artefact.created),
        "name": artefact.name,
        "version": artefact.version,
        "kind": artefact.kind,
        "base": base,
        "model": f"{base}:{artefact.reference}",
        "sha256": artefact.digest,
        "bytes": artefact.bytes,
        "rank": artefact.length if artefact.kind == "lora" else None,
        "length": artefact.added_tokens or None,
        "status": status,
        "in_flight": live.holders if live else 0,
        "load_milliseconds": round(live.load_seconds * 1000, 3) if live and live.load_seconds else None,
        "last_used_at": int(live.used_at) if live and live.used_at else None,
        "error": entry.error,
        "parent": artefact.parent,
        "metrics": dict(artefact.metrics),
        "aliases": list(listed.aliases),
    }


def promotion_object(moved: Moved, by: str) -> dict[str, Any]:
    return {
        "object": "promotion",
        "alias": moved.alias,
        "before": moved.before,
        "after": moved.after,
        "at": int(moved.at),
        "by": by,
    }


def step_object(step: Step) -> dict[str, Any]:
    return {"object": "adapter.step", **step._asdict(), "at": int(step.at)}


def read(body: bytes, model: type[Any], unknown_fields: str = "refuse") -> Any:
    """Raises InvalidValue, MissingParameter, UnsupportedParameter. No body is an empty one."""
    return read_body(body or b"{}", model, TABLES[model], unknown_fields)[0]
