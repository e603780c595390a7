"""A reward model on disk: what peft writes, and reward.json with its units and its counting part."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from training.artefacts import MANIFEST, refuse_unsafe
from training.backbone import base_digest
from training.errors import ArtefactRefused, ExtraMissing
from training.overlap import FEATURES
from training.reward import RewardModel, Scale, classifier, tokenizer_of

REWARD = "reward.json"
FIELDS = {"mean", "deviation", "network", "counting", "features", "weights", "middle", "spread"}


def write(model: RewardModel, folder: Path) -> None:
    if model.network is not None:
        model.network.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    said = {
        "mean": model.scale.mean,
        "deviation": model.scale.deviation,
        "network": model.network is not None,
        "counting": model.counting,
        "features": list(FEATURES),
        "weights": model.weights.tolist(),
        "middle": model.middle.tolist(),
        "spread": model.spread.tolist(),
    }
    (folder / REWARD).write_text(json.dumps(said, indent=1) + "\n")


def read(folder: Path, base: Path, device: str) -> RewardModel:
    """What `write` wrote, on its base, without gradients. Raises ArtefactRefused, BaseRefused."""
    try:
        import peft
    except ImportError as problem:
        raise ExtraMissing("a reward model needs peft: pip install 'fewshot[training]'") from problem
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        said = json.loads((folder / REWARD).read_text())
    except (OSError, ValueError) as problem:
        raise ArtefactRefused(
            f"{folder} is no reward model: make one with `fewshot train reward`"
        ) from problem
    refuse_unsafe(folder)  # peft would open other files than safetensors too
    if manifest.get("base", {}).get("digest") != base_digest(base):
        trained_on = manifest.get("base", {}).get("name")
        raise ArtefactRefused(f"the reward model {folder} was trained on {trained_on}, not on {base.name}")
    lacking = sorted(FIELDS - set(said)) if isinstance(said, dict) else sorted(FIELDS)
    if lacking:
        raise ArtefactRefused(f"{folder / REWARD} lacks {lacking[0]!r}: train it anew with this release")
    if said.get("features") != list(FEATURES):
        raise ArtefactRefused(
            f"{folder} counts {said.get('features')}, this release {list(FEATURES)}: train anew"
        )
    if said["network"]:
        tokenizer, network = classifier(base)
        model = RewardModel(
            peft.PeftModel.from_pretrained(network, str(folder)), tokenizer, counting=said["counting"]
        )
    else:
        model = RewardModel(None, tokenizer_of(base), counting=True)
    with torch.no_grad():
        for name in ("weights", "middle", "spread"):
            getattr(model, name).copy_(torch.tensor(said[name]))
    model.scale = Scale(said["mean"], said["deviation"])
    return model.to(device).eval().requires_grad_(False)
