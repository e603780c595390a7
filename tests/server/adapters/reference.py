"""Hugging Face and peft as the reference: a small random Llama, and adapters that change much."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

WORDS = 480
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # or peft asks a hub about the base when it saves


def write_llama(folder: Path) -> Path:
    """Two layers, tied embeddings, a word-level tokenizer: whole, and loaded in a moment."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=0.08,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{n}": n for n in range(3, WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    fast.save_pretrained(folder)
    return folder


def make_adapter(model: Path, folder: Path, config: Any, *, seed: int, scale: float = 0.6) -> Path:
    """A peft adapter with random weights, as peft saves it."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = get_peft_model(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), config)
        for name, parameter in peft.named_parameters():
            if parameter.requires_grad:
                size = scale / max(parameter.shape) ** 0.5 if "lora" in name else scale
                parameter.data.normal_(0, size)
        peft.save_pretrained(folder)
    return folder


def hf_answers(
    model: Path, adapter: Path | None, prompts: list[list[int]], tokens: int
) -> list[tuple[list[int], list[dict[int, float]]]]:
    """Greedy ids, and at each step the log-probabilities of the 20 likeliest tokens."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        if adapter is not None:
            network = PeftModel.from_pretrained(network, adapter)
        return greedy(network.eval(), prompts, tokens)


def greedy(
    network: Any, prompts: list[list[int]], tokens: int
) -> list[tuple[list[int], list[dict[int, float]]]]:
    """As `hf_answers`, of a network that is there already."""
    import torch

    answers = []
    for prompt in prompts:
        ids, steps = list(prompt), []
        for _ in range(tokens):
            with torch.no_grad():
                logits = network(input_ids=torch.tensor([ids])).logits[0, -1]
            best = torch.log_softmax(logits.float(), -1).topk(20)
            steps.append(dict(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
            ids.append(best.indices[0].item())
        answers.append((ids[len(prompt) :], steps))
    return answers


def length_of(adapter: Path) -> int:
    config = json.loads((adapter / "adapter_config.json").read_text())
    return int(config.get("num_virtual_tokens") or config["r"])
