"""A causal language model out of a folder, with its tokenizer; what cannot be one is refused in one way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from training.errors import BaseRefused


def causal_model(folder: Path) -> tuple[Any, Any]:
    """(model in float32 on the processor, tokenizer). Raises BaseRefused when the folder holds none."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loading: Any = AutoModelForCausalLM
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = loading.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError) as problem:
        raise BaseRefused(
            f"{folder} is no causal language model: {str(problem).splitlines()[0]}"
        ) from problem
    return model, tokenizer


def answering_model(folder: Path) -> tuple[Any, Any]:
    """The same, of a model whose answers can end. Raises BaseRefused."""
    model, tokenizer = causal_model(folder)
    if tokenizer.eos_token_id is None:
        raise BaseRefused(f"{folder.name} has no end token, so an answer could not end")
    return model, tokenizer
