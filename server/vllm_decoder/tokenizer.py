"""The served model's tokenizer behind the server's Tokenizer seam."""

from collections.abc import Sequence
from typing import Any

from prompts.records import Message


class VllmTokenizer:
    """The served model's tokenizer and chat template, one function for counting and for decoding."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special_ids = frozenset(tokenizer.all_special_ids)

    def chat(self, messages: Sequence[Message], *, thinking: bool | None = None) -> tuple[int, ...]:
        turns = [{"role": message.role, "content": message.text} for message in messages]
        options = {} if thinking is None else {"enable_thinking": thinking}
        return tuple(
            self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=True, return_dict=False, **options
            )
        )

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text))

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens)))
