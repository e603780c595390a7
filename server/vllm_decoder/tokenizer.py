"""The served model's tokenizer behind the server's Tokenizer seam."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from prompts.records import Message
from server.calling import Function
from server.hermes import worded

PROBE = Function(name="a_function_to_look_for")


class VllmTokenizer:
    """The served model's tokenizer and chat template, one function for counting and for decoding."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special_ids = frozenset(tokenizer.all_special_ids)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool | None = None,
        functions: Sequence[Function] = (),
    ) -> tuple[int, ...]:
        calls = functions or any(message.calls or message.role == "tool" for message in messages)
        if calls and not self._knows_functions:
            messages, functions = worded(messages, functions), ()
        options = {} if thinking is None else {"enable_thinking": thinking}
        return tuple(
            self._tokenizer.apply_chat_template(
                _turns(messages),
                tools=[function.shown() for function in functions] or None,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                **options,
            )
        )

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text))

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens)))

    @cached_property
    def _knows_functions(self) -> bool:
        """Whether the model's chat template has a place for them: many silently leave them out."""
        try:
            text = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": "x"}], tools=[PROBE.shown()], tokenize=False
            )
        except Exception:  # a template may raise what it likes where it knows no functions
            return False
        return PROBE.name in text


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    names = {call.id: call.name for message in messages for call in message.calls}
    turns = []
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.text}
        if message.calls:
            turn["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    # Templates write the arguments as they need them, so they want the value, not its text.
                    "function": {"name": call.name, "arguments": json.loads(call.arguments)},
                }
                for call in message.calls
            ]
        if message.role == "tool":
            turn |= {"tool_call_id": message.answers, "name": names.get(message.answers or "", "")}
        turns.append(turn)
    return turns
