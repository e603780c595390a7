"""Where a policy starts: a fresh LoRA, or a published one that is learned further."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.adapting import adapted
from training.artefacts import MANIFEST, refuse_unsafe
from training.backbone import base_digest
from training.errors import ArtefactRefused, BaseRefused


def started(
    base: Path, start: Path | None, device: str, *, rank: int, seed: int
) -> tuple[Any, Any, dict[str, Any] | None]:
    """(peft model in float32, tokenizer, manifest of the start). Raises BaseRefused, ArtefactRefused.

    A start brings its own rank. It must be a LoRA of this very base.
    """
    if start is None:
        return *adapted(base, device, "lora", rank=rank, tokens=1, seed=seed), None
    import peft
    from safetensors.torch import load_file

    try:
        manifest = json.loads((start / MANIFEST).read_text())
        config = json.loads((start / "adapter_config.json").read_text())
        tensors = load_file(start / "adapter_model.safetensors")
    except (OSError, ValueError) as problem:
        raise ArtefactRefused(f"{start} is no LoRA: make one with `fewshot train sft`") from problem
    refuse_unsafe(start)
    if manifest.get("kind") != "lora" or config.get("peft_type") != "LORA":
        raise ArtefactRefused(f"{start} is a {manifest.get('kind')}: a policy starts from a LoRA")
    if manifest.get("base", {}).get("digest") != base_digest(base):
        raise BaseRefused(
            f"{start} was trained on {manifest.get('base', {}).get('name')}, not on {base.name}"
        )
    method = "rslora" if config.get("use_rslora") else "lora"
    model, tokenizer = adapted(base, device, method, rank=int(config["r"]), tokens=1, seed=seed)
    if int(config["lora_alpha"]) != 2 * int(config["r"]):
        raise ArtefactRefused(
            f"{start} has lora_alpha {config['lora_alpha']}, not twice its rank: train it anew"
        )
    missing = peft.set_peft_model_state_dict(model, tensors)
    lacking = [name for name in missing.missing_keys if "lora_" in name]
    if lacking or missing.unexpected_keys:
        raise ArtefactRefused(f"{start} adapts other layers than this release: train it anew")
    return model, tokenizer, manifest


def folder_of(reference: str, out: Path) -> Path:
    """name@version among the adapters in `out`, or a folder. Raises ArtefactRefused."""
    name, at, version = reference.partition("@")
    for folder in (out / name / version if at else Path(reference), Path(reference)):
        if (folder / MANIFEST).is_file():
            return folder
    raise ArtefactRefused(
        f"no {reference!r} in {out}: give name@version as the command printed it, or its folder"
    )
