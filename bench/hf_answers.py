"""What Hugging Face and peft say of a chat, greedily: the reference for what is served."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

TOP = 20


class Said(NamedTuple):
    """An answer: at each step the token's text, its log-probability, and those of the likeliest, falling."""

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]
    best: tuple[tuple[float, ...], ...]


class Where(NamedTuple):
    """Where the reference is computed, and in which numbers."""

    device: str = "cpu"
    dtype: str = "float32"


def hf_answers(
    model: Path, adapter: Path | None, questions: Sequence[str], tokens: int, where: Where
) -> list[Said]:
    """`adapter` is a folder of peft, or of a whole model; no end token ends an answer."""
    import torch
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(model), local_files_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = _network(model, adapter, where).to(where.device).eval()
        found = []
        for question in questions:
            turns = [{"role": "user", "content": question}]
            ids = tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=True, return_dict=False
            )
            said: list[tuple[str, float, tuple[float, ...]]] = []
            for _ in range(tokens):
                with (
                    torch.no_grad()
                ):  # without a cache: peft's prompt methods each treat it in a way of their own
                    logits = network(input_ids=torch.tensor([ids], device=where.device)).logits[0, -1]
                best = torch.log_softmax(logits.float(), -1).topk(TOP)
                token, values = int(best.indices[0]), tuple(best.values.tolist())
                said.append((tokenizer.decode([token]), values[0], values))
                ids = [*ids, token]
            found.append(Said(*(tuple(column) for column in zip(*said, strict=True))))
    return found


def _network(model: Path, adapter: Path | None, where: Where) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from training import bottlenecks

    loading: Any = AutoModelForCausalLM
    dtype = getattr(torch, where.dtype)
    if adapter is not None and (adapter / bottlenecks.FILE).is_file():
        return bottlenecks.load(_network(model, None, where), adapter).to(dtype)
    if adapter is not None and not (adapter / "adapter_config.json").is_file():
        return loading.from_pretrained(str(adapter), local_files_only=True, dtype=dtype)
    base = loading.from_pretrained(str(model), local_files_only=True, dtype=dtype)
    return base if adapter is None else PeftModel.from_pretrained(base, str(adapter)).to(dtype)


def kept_answers(
    file: Path,
    model: Path,
    adapter: Path | None,
    questions: Sequence[str],
    tokens: int,
    where: Where,
) -> list[Said]:
    """As `hf_answers`, out of `file` where the same was asked before."""
    asked = {
        "adapter": adapter.name if adapter else None,
        "questions": list(questions),
        "tokens": tokens,
        "where": list(where),
    }
    if file.is_file():
        there = json.loads(file.read_text())
        if there["asked"] == asked:
            return [
                Said(tuple(one[0]), tuple(one[1]), tuple(tuple(best) for best in one[2]))
                for one in there["said"]
            ]
    said = hf_answers(model, adapter, questions, tokens, where)
    file.write_text(json.dumps({"asked": asked, "said": said}))
    return said
