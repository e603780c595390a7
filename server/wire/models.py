"""`GET /v1/models`: OpenAI's four fields, those that tools written for vLLM read, and ours."""

from collections.abc import Sequence
from typing import Any, Literal

from server.adapters.leases import Live
from server.aliases import Alias
from server.profile import ModelProfile

OWNER = "fewshot"
Kind = Literal["base", "adapter", "alias", "embedding"]


def model_object(profile: ModelProfile) -> dict[str, Any]:
    """The base model."""
    return _object(
        profile.name, "base", profile.created, max_model_len=profile.context_tokens, sha256=profile.sha256
    )


def alias_object(alias: Alias, profile: ModelProfile) -> dict[str, Any]:
    """A name that stands for a way to answer, with what it binds."""
    shown = _object(
        alias.name, "alias", profile.created, max_model_len=profile.context_tokens, sha256=profile.sha256
    )
    told = {**shown["fewshot"], "base": profile.name, "bound": alias.bound}
    return {**shown, "root": profile.name, "parent": profile.name, "fewshot": told}


def embedding_object(
    name: str, *, created: int, max_model_len: int | None = None, sha256: str | None = None
) -> dict[str, Any]:
    """The embedding model; `max_model_len` in tokens."""
    return _object(name, "embedding", created, max_model_len=max_model_len, sha256=sha256)


def adapter_model(name: str, live: Live, base: ModelProfile) -> dict[str, Any]:
    """A name beside the base: `<base>:<adapter>@<version>`, or an alias of one."""
    artefact = live.artefact
    alias = name != artefact.reference
    shown = _object(
        name if alias else f"{base.name}:{name}",
        "alias" if alias else "adapter",
        int(artefact.created) or base.created,
        max_model_len=base.context_tokens - artefact.added_tokens,
        sha256=artefact.digest,
    )
    told = {"base": base.name, "adapter": artefact.reference}
    return {**shown, "root": base.name, "parent": base.name, "fewshot": {**shown["fewshot"], **told}}


def model_list(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A bare page. The first must be the default base model: benchmark tools take `data[0].id`."""
    return {"object": "list", "data": list(models)}


def _object(
    name: str, kind: Kind, created: int, *, max_model_len: int | None, sha256: str | None
) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": OWNER,
        "root": name,
        "parent": None,
        "max_model_len": max_model_len,
        "fewshot": {
            "kind": kind,
            "sha256": sha256,
            "base": None,
            "adapter": None,
            "bound": {},
            "loaded": True,
        },
    }
