"""vLLM's own tool parsers: out of an answer in the model's format, the functions it calls."""

import logging
from collections.abc import Callable
from typing import Any

from server.calling import Calling, CallPart, Function, Heard
from server.ids import new_id

log = logging.getLogger("fewshot.tools")
PROBE = Calling(functions=(Function(name="probe"),))


def check_parser(name: str) -> None:
    """Raises ValueError listing the parsers that this vLLM has."""
    from vllm.tool_parsers import ToolParserManager

    known = ToolParserManager.list_registered()
    if name not in known:
        raise ValueError(f"engine.tool_parser: no parser {name!r}; this vLLM has {', '.join(known)}")


class ToolParsing:
    """One parser of vLLM's for one tokenizer; a reader of it for every choice of an answer."""

    def __init__(self, name: str, tokenizer: Any, model_config: Any = None) -> None:
        """Raises ValueError, or TypeError for a tokenizer that is not of the parser's models."""
        from vllm.parser import ParserManager

        check_parser(name)
        self.name = name
        self._model_config = model_config
        self._class: Any = ParserManager.get_parser(name, enable_auto_tools=True)
        self._tokenizer = tokenizer
        request = _request(PROBE)
        try:
            parser = self._parser(request)
        except Exception as problem:  # each looks for its own marks in the vocabulary
            raise TypeError(f"engine.tool_parser {name!r} does not suit this model: {problem}") from problem
        self.needs_special_tokens = not parser.adjust_request(request).skip_special_tokens

    def reader(self, calling: Calling, *, streamed: bool) -> "VllmCallReader":
        request = _request(calling)
        return VllmCallReader(self._parser(request), request, streamed=streamed)

    def _parser(self, request: Any) -> Any:
        return self._class(self._tokenizer, request.tools, model_config=self._model_config)


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

    def read(self, text: str, tokens: tuple[int, ...], *, ends: bool) -> Heard:
        if self._broken:
            return Heard(text)
        if self._streamed:
            return self._guarded(lambda: self._more(text, tokens, ends), text)
        self._text += text
        self._tokens += tokens
        return self._guarded(self._whole, self._text) if ends else Heard()

    def _more(self, text: str, tokens: tuple[int, ...], ends: bool) -> Heard:
        """A model may think aloud; whoever reads that out of an answer is not here, so it is text."""
        # An empty prompt tells the parser that no thought is open at its end.
        delta = self._parser.parse_delta(
            text, list(tokens), self._request, prompt_token_ids=[], finished=ends
        )
        if delta is None:
            return Heard()
        parts: list[CallPart] = []
        for call in delta.tool_calls or ():
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
        return Heard((delta.reasoning or "") + (delta.content or ""), tuple(parts))

    def _whole(self) -> Heard:
        thought, content, calls = self._parser.parse(
            self._text, self._request, enable_auto_tools=True, model_output_token_ids=self._tokens
        )
        parts = (
            CallPart(at, call.arguments, call.id or new_id("call_"), call.name)
            for at, call in enumerate(calls or ())
        )
        return Heard((thought or "") + (content or ""), tuple(parts))

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
