"""Small random models with a real tokenizer, and a data set that they can learn in seconds."""

import json
import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

torch.set_num_threads(1)  # models this small gain nothing from more, and wait for them on a busy machine

GOOD = ["good", "great", "fine", "lovely", "superb", "warm"]
BAD = ["bad", "poor", "awful", "dull", "dreadful", "cold"]
PLAIN = ["the", "film", "was", "and", "it", "very", "quite", "story", "actor", "scene", "with", "in", "of"]


@pytest.fixture(scope="session")
def bases(tmp_path_factory) -> dict[str, Path]:
    """An encoder and a decoder of four blocks, random weights."""
    logging.disable_progress_bar()
    root = tmp_path_factory.mktemp("bases")
    words = ["[PAD]", "[UNK]", "[EOS]", "Text", "Label", ":", "\n", "neg", "pos", *GOOD, *BAD, *PLAIN]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]"
    )
    torch.manual_seed(3)
    sizes = {"vocab_size": len(words), "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    encoder = BertModel(BertConfig(**sizes, intermediate_size=64, max_position_embeddings=96, pad_token_id=0))
    decoder = LlamaForCausalLM(
        LlamaConfig(
            **sizes,
            num_key_value_heads=1,
            intermediate_size=64,
            max_position_embeddings=512,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=2,
            tie_word_embeddings=True,
        )
    )
    for name, model in (("encoder", encoder), ("decoder", decoder)):
        model.save_pretrained(root / name)
        fast.save_pretrained(root / name)
    return {name: root / name for name in ("encoder", "decoder")}


@pytest.fixture(scope="session")
def reviews(tmp_path_factory) -> Path:
    """240 training and 80 test texts; one word of each says the label."""
    folder = tmp_path_factory.mktemp("reviews")
    draw = random.Random(5)

    def row(part: str, number: int) -> str:
        label = draw.randrange(2)
        words = draw.choices(PLAIN, k=draw.randrange(4, 16))
        words.insert(draw.randrange(len(words)), draw.choice(GOOD if label else BAD))
        return json.dumps({"id": f"{part}-{number}", "text": " ".join(words), "label": ["neg", "pos"][label]})

    for part, count in (("train", 240), ("test", 80)):
        rows = sorted((row(part, number) for number in range(count)), key=lambda one: '"pos"' in one)
        (folder / f"{part}.jsonl").write_text("\n".join(rows) + "\n")  # by label, as such files often are
    return folder
