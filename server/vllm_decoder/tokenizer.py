"""The served model's tokenizer behind the server's Tokenizer seam."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from prompts.records import Message
from server.calling import Function
from server.hermes import worded

SAMPLE = (
    "A text, to see whether the engine alone says what the tokenizer says: 北京 Ünïcödé\t123 <|im_start|>"
)
Turns = list[dict[str, Any]]
Text = Callable[[Turns, Turns | None, Mapping[str, Any]], str]
Ids = Callable[[str, bool], tuple[int, ...]]  # (text, whether special tokens are put around it) → ids
PROBE = Function(name="a_function_to_look_for")


class VllmTokenizer:
    """The served model's tokenizer and chat template, one function for counting and for decoding."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids = _ids_alone(tokenizer)
        self._text = _template_alone(tokenizer)
        self._cut = _cut(tokenizer, self._ids)
        self.special_ids = frozenset(tokenizer.all_special_ids)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool | None = None,
        functions: Sequence[Function] = (),
        known: dict[str, tuple[int, ...]] | None = None,
    ) -> tuple[int, ...]:
        calls = functions or any(message.calls or message.role == "tool" for message in messages)
        if calls and not self._knows_functions:
            messages, functions = worded(messages, functions), ()
        options: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
        if self._ids is not None and self._text is not None and messages:
            shown = [function.shown() for function in functions] or None
            return self._read(self._text(_turns(messages), shown, options), self._ids, known)
        if self._ids is None:
            options |= {"tokenize": True, "return_dict": False}
        else:
            options |= {"tokenize": False}
        said = self._tokenizer.apply_chat_template(
            _turns(messages),
            tools=[function.shown() for function in functions] or None,
            add_generation_prompt=True,
            **options,
        )
        return tuple(said) if self._ids is None else self._read(said, self._ids, known)

    def _read(self, said: str, ids: Ids, known: dict[str, tuple[int, ...]] | None) -> tuple[int, ...]:
        if known is None or self._cut is None:
            return ids(said, False)
        found: list[int] = []
        for piece in self._cut.split(said):
            if piece not in known:
                known[piece] = ids(piece, False)
            found += known[piece]
        return tuple(found)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text)) if self._ids is None else self._ids(text, True)

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


def _ids_alone(tokenizer: Any) -> Ids | None:
    """The ids of a text, without what transformers makes beside them.

    Where each token stands in the text, masks and their lists are three tenths of what tokenising costs. A
    copy, so that nobody else's truncation or padding is in it. None where the tokenizer has no such engine
    (Mistral's own), or its engine alone says something else.
    """
    engine = getattr(tokenizer, "backend_tokenizer", None)
    if engine is None:
        return None
    alone = Tokenizer.from_str(engine.to_str())
    alone.no_truncation()
    alone.no_padding()

    def ids(text: str, special: bool) -> tuple[int, ...]:
        return tuple(alone.encode_batch_fast([text], add_special_tokens=special)[0].ids)

    same = all(
        ids(SAMPLE, special) == tuple(tokenizer(SAMPLE, add_special_tokens=special)["input_ids"])
        for special in (False, True)
    )
    return ids if same else None


def _template_alone(tokenizer: Any) -> Text | None:
    """(turns, functions, options) → text, by the chat template and nothing else.

    The template is compiled once either way; what transformers and vLLM's pool of tokenizers do around it is
    half of what it costs. None where there is no template, or it alone says something else.
    """
    turns = [{"role": "system", "content": SAMPLE}, {"role": "user", "content": SAMPLE}]
    functions = [PROBE.shown()]
    try:
        from transformers.utils.chat_template_utils import _compile_jinja_template

        special = dict(tokenizer.special_tokens_map)
        plain, calling = (
            _compile_jinja_template(tokenizer.get_chat_template(None, tools)) for tools in (None, functions)
        )
        for template in (plain, calling):
            template.globals = dict(template.globals)  # a chain of mappings, walked in Python each time

        def text(turns: Turns, tools: Turns | None, options: Mapping[str, Any]) -> str:
            said: str = (plain if tools is None else calling).render(
                messages=turns,
                tools=tools,
                documents=None,
                add_generation_prompt=True,
                **{**special, **options},
            )
            return said

        for tools in (None, functions):
            options = {"tools": tools, "add_generation_prompt": True, "tokenize": False}
            for more in ({}, {"enable_thinking": False}):
                if text(turns, tools, more) != tokenizer.apply_chat_template(turns, **options, **more):
                    return None
    except Exception:  # a template may raise what it likes; transformers may have moved what is its own
        return None
    return text


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


def _cut(tokenizer: Any, ids: Ids | None) -> re.Pattern[str] | None:
    """Finds the added tokens in a text, for reading what stands between them apart; None where it may not be.

    The engine itself looks for them before anything else, so what is around them is read piece by piece. It
    may not be where one takes the blanks beside it along, or where the first piece is read otherwise.
    """
    if ids is None:
        return None
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    if not added or any(
        token.lstrip or token.rstrip or token.single_word or token.normalized for token in added
    ):
        return None
    longest_first = sorted((token.content for token in added), key=len, reverse=True)
    cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
    between = ("", SAMPLE, " a", "\n", "a ", "Ünï\n\n b")
    sample = "".join(text + mark for text, mark in zip(between, longest_first * len(between), strict=False))
    apart = [token for piece in cut.split(sample) for token in ids(piece, False)]
    return cut if apart == list(ids(sample, False)) else None
