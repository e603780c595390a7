"""A stand-in for the served engine's label scores: plain transformers, one prompt at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from prompts.records import Format, Message


class TransformersScorer:
    """First-token label scores in float32; the state of the prefix shared with the last prompt is kept."""

    def __init__(self, folder: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        self._torch = torch
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        loading: Any = AutoModelForCausalLM  # its types do not survive strict checking
        self._model = loading.from_pretrained(folder, dtype=torch.float32).eval()
        self.format: Format = "chat"
        self.context_tokens = int(self._model.config.max_position_embeddings)
        self._ids: list[int] = []
        self._state: Any = None

    def ids(self, messages: Sequence[Message]) -> list[int]:
        if self.format == "plain":
            return list(self._tokenizer.encode("".join(message.text for message in messages)))
        turns = [{"role": message.role, "content": message.text} for message in messages]
        text = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def count(self, messages: Sequence[Message]) -> int:
        return len(self.ids(messages))

    def __call__(self, messages: Sequence[Message], labels: Sequence[str]) -> list[float]:
        before = " " if self.format == "plain" else ""  # "Sentiment:" is followed by " positive"
        first = [self._tokenizer.encode(before + label, add_special_tokens=False)[0] for label in labels]
        if len(set(first)) < len(first):
            raise ValueError(f"two of the labels {', '.join(labels)} begin with the same token")
        ids = self.ids(messages)
        same = takewhile(lambda pair: pair[0] == pair[1], zip(ids, self._ids, strict=False))
        shared = min(len(list(same)), len(ids) - 1)
        if self._state is not None and shared < len(self._ids):
            self._state.crop(shared - len(self._ids))  # a negative number of tokens to take off the end
        with self._torch.inference_mode():
            out = self._model(
                input_ids=self._torch.tensor([ids[shared if self._state is not None else 0 :]]),
                past_key_values=self._state,
                use_cache=True,
                logits_to_keep=1,
            )
        self._ids, self._state = ids, out.past_key_values
        logprobs = out.logits[0, -1].float().log_softmax(-1)
        return [float(logprobs[token]) for token in first]
