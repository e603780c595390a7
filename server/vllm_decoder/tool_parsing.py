"""vLLM's own tool parsers: out of an answer in the model's format, the functions it calls."""

import logging
from collections.abc import Callable
from typing import Any

from server.calling import Calling, CallPart, Function, Heard
from server.ids import new_id

log = logging.getLogger("fewshot.tools")
PROBE = Calling(functions=(Function(name="probe"),))


def parser_class(name: str) -> Any:
    """Raises ValueError listing the parsers that this vLLM has."""
    from vllm.tool_parsers import ToolParserManager

    known = ToolParserManager.list_registered()
    if name not in known:
        raise ValueError(f"engine.tool_parser: no parser {name!r}; this vLLM has {', '.join(known)}")
    return ToolParserManager.get_tool_parser(name)


class ToolParsing:
    """One parser of vLLM's for one tokenizer; a reader of it for every choice of an answer."""

    def __init__(self, name: str, tokenizer: Any) -> None:
        """Raises ValueError, or what vLLM's parser raises for a tokenizer that is not of its model."""
        self.name = name
        self._class = parser_class(name)
        self._tokenizer = tokenizer
        adjusted = self._class(tokenizer, []).adjust_request(_request(PROBE))
        self.needs_special_tokens = not adjusted.skip_special_tokens

    def reader(self, calling: Calling, *, streamed: bool) -> "VllmCallReader":
        request = _request(calling)
        return VllmCallReader(self._class(self._tokenizer, request.tools), request, streamed=streamed)


class VllmCallReader:
    """One choice through one of vLLM's parsers, as its own server does it: by bits for a stream, else whole.

    A parser that stumbles over what the model wrote leaves it as text.
    """

    def __init__(self, parser: Any, request: Any, *, streamed: bool) -> None:
        self._parser = parser
        self._request = request
        self._streamed = streamed
        self._text = ""
        self._tokens: list[int] = []
        self._places: dict[int, int] = {}  # the parser's index of a call → ours, once it has a name
        self._unnamed: dict[int, str] = {}  # arguments that came before the name did
        self._broken = False

    def read(self, text: str, tokens: tuple[int, ...]) -> Heard:
        before, known = self._text, self._tokens
        self._text, self._tokens = before + text, [*known, *tokens]
        if not self._streamed:
            return Heard()
        if self._broken:
            return Heard(text)

        def parse() -> Heard:
            return self._heard(
                self._parser.extract_tool_calls_streaming(
                    before, self._text, text, known, self._tokens, list(tokens), self._request
                )
            )

        return self._guarded(parse, text)

    def finish(self) -> Heard:
        if not self._streamed:
            return self._guarded(self._whole, self._text)
        return Heard() if self._broken else self._guarded(self._rest, "")

    def _whole(self) -> Heard:
        found = self._parser.extract_tool_calls(self._text, self._request)
        if not found.tools_called:
            return Heard(self._text)
        calls = (
            CallPart(at, call.function.arguments, call.id or new_id("call_"), call.function.name)
            for at, call in enumerate(found.tool_calls)
        )
        return Heard(found.content or "", tuple(calls))

    def _rest(self) -> Heard:
        """What the parser knows and has not said: it waits for more, and there is no more."""
        ended = getattr(self._parser, "finish_streaming", None)
        heard = self._heard(ended()) if ended else Heard()
        left = self._parser.get_remaining_unstreamed_args() if self._places else ""
        last = max(self._places.values(), default=0)
        return heard.then(Heard(calls=(CallPart(last, left),))) if left else heard

    def _heard(self, delta: Any) -> Heard:
        if delta is None:
            return Heard()
        parts: list[CallPart] = []
        for call in delta.tool_calls:
            name = call.function.name if call.function else None
            arguments = (call.function.arguments if call.function else None) or ""
            if call.index in self._places:
                parts += [CallPart(self._places[call.index], arguments)] if arguments else []
            elif name:
                at = self._places[call.index] = len(self._places)
                earlier = self._unnamed.pop(call.index, "")
                parts.append(CallPart(at, earlier + arguments, call.id or new_id("call_"), name))
            else:
                self._unnamed[call.index] = self._unnamed.get(call.index, "") + arguments
        return Heard(delta.content or "", tuple(parts))

    def _guarded(self, parse: Callable[[], Heard], otherwise: str) -> Heard:
        try:
            return parse()
        except Exception as problem:  # vLLM's parsers raise whatever the model's text makes them stumble over
            log.warning("the tool parser failed on an answer: %s: %s", type(problem).__name__, problem)
            self._broken = True
            return Heard(otherwise)


def _request(calling: Calling) -> Any:
    """A request as vLLM's parsers want to see it: they look up the functions' schemas there."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    return ChatCompletionRequest(
        model="model",
        messages=[{"role": "user", "content": ""}],
        tools=[function.shown() for function in calling.functions],
        tool_choice="auto",
        parallel_tool_calls=calling.parallel,
    )
