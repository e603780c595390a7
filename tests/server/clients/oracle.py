"""The same weights in transformers, asked as lm-evaluation-harness asks: what the server should have said."""

from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class Scored(NamedTuple):
    loglikelihood: float
    greedy: bool


class Oracle:
    """float32 on the CPU, one text at a time."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _score(self, ids: list[int], start: int) -> Scored:
        with torch.inference_mode():
            logprobs = self._model(torch.tensor([ids])).logits[0].log_softmax(-1)
        wanted = torch.tensor(ids[start:])
        rows = logprobs[start - 1 : -1]
        picked = rows.gather(1, wanted[:, None])[:, 0]
        return Scored(picked.double().sum().item(), bool((rows.argmax(-1) == wanted).all()))

    def choice(self, context: str, continuation: str) -> Scored:
        """Of the continuation; the two are tokenised together and parted at the context's length."""
        return self._score(self._ids(context + continuation), len(self._ids(context)))

    def whole(self, text: str) -> float:
        """Log-likelihood of a text after the token that starts one."""
        bos = self._tokenizer.bos_token_id
        first = self._tokenizer.eos_token_id if bos is None else bos
        return self._score([first, *self._ids(text)], 1).loglikelihood

    def written(self, prompt: str, *, until: list[str], tokens: int) -> str:
        return self._write(self._ids(prompt), until, tokens)

    def answered(self, messages: list[dict[str, str]], *, until: list[str], tokens: int) -> str:
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return self._write(self._ids(text), until, tokens)

    def _write(self, ids: list[int], until: list[str], tokens: int) -> str:
        with torch.inference_mode():
            made = self._model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=self._tokenizer.eos_token_id,
            )
        text = self._tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True)
        for stop in until:
            text = text.split(stop)[0]
        return text
