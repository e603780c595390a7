"""The frames of one chat stream, rendered ahead with a hole for the text (openai-surface §5.4)."""

from typing import Any

import orjson

from server.records import Piece, Plan
from server.wire.answers import annotations, chat_logprobs
from server.wire.provenance import fewshot_object

END = b"}\n\n"
PLAIN = b'},"logprobs":null,"finish_reason":null}],"usage":null' + END  # after words and nothing else


class ChatChunks:
    """`usage` is always JSON bytes: `null`, or the counts so far."""

    def __init__(self, plan: Plan, public_url: str = "") -> None:
        turn = plan.turn
        self.choices = turn.n
        self._plan = plan
        self._public_url = public_url
        same = {
            "id": turn.id,
            "object": "chat.completion.chunk",
            "created": turn.created,
            "model": turn.model,
            "system_fingerprint": plan.fingerprint,
        }
        self._head = b"data: " + orjson.dumps(same)[:-1] + b',"choices":['
        self._text = [
            self._head + b'{"index":%d,"delta":{"content":' % index for index in range(self.choices)
        ]

    def opening(self, usage: bytes) -> bytes:
        """Every choice in index order: the client's helper indexes a list by it. `role` is said here only,
        because the helper concatenates strings; it keeps extra keys of the very first chunk only."""
        extra = {
            "service_tier": "default",
            "metadata": dict(self._plan.turn.metadata),
            "fewshot": fewshot_object(self._plan),
        }
        keys = b"," + orjson.dumps(extra)[1:-1]
        frames = b""
        # As OpenAI has it: no words are null where there may be calls instead.
        content = b"null" if self._plan.turn.calling.functions else b'""'
        for index in range(self.choices):
            frames += self._head + b'{"index":%d,"delta":{"role":"assistant","content":' % index
            frames += content + b"},"
            frames += b'"logprobs":null,"finish_reason":null}],"usage":' + usage + keys + END
            keys = b""
        return frames

    def delta(self, piece: Piece, usage: bytes) -> bytes:
        """Empty when there is nothing to say. Called for every token, so it does as little as it can."""
        if piece.text and piece.logprobs is None and not piece.calls and usage == b"null":
            return self._text[piece.index] + orjson.dumps(piece.text) + PLAIN
        if piece.calls:
            return self._words(piece, usage) + self._calls(piece, usage)
        return self._words(piece, usage)

    def _words(self, piece: Piece, usage: bytes) -> bytes:
        if piece.logprobs:
            logprobs = orjson.dumps(chat_logprobs(piece.logprobs, self._plan.turn.logprobs))
        elif piece.text:
            logprobs = b"null"
        else:
            return b""
        said = self._text[piece.index] + orjson.dumps(piece.text)
        if not piece.text and self._plan.turn.calling.functions:  # no words are null, not empty
            said = self._head + b'{"index":%d,"delta":{' % piece.index
        return b"".join(
            (
                said,
                b'},"logprobs":',
                logprobs,
                b',"finish_reason":null}],"usage":',
                usage,
                END,
            )
        )

    def _calls(self, piece: Piece, usage: bytes) -> bytes:
        """Parts of calls. Id, type and name come once: the helper adds strings up."""
        told: list[dict[str, Any]] = []
        for part in piece.calls:
            if part.name is None:
                told.append({"index": part.at, "function": {"arguments": part.arguments}})
            else:
                function = {"name": part.name, "arguments": part.arguments}
                told.append({"index": part.at, "id": part.id, "type": "function", "function": function})
        choice = {
            "index": piece.index,
            "delta": {"tool_calls": told},
            "logprobs": None,
            "finish_reason": None,
        }
        return self._head + orjson.dumps(choice) + b'],"usage":' + usage + END

    def closing(self, piece: Piece, usage: bytes, extra: bytes = b"") -> bytes:
        """The end of a choice. All its annotations are in one delta: the helper refuses a second list."""
        delta: dict[str, Any] = {}
        if piece.citations:
            delta["annotations"] = annotations(piece.citations, self._public_url)
        choice = {"index": piece.index, "delta": delta, "logprobs": None, "finish_reason": piece.finish}
        return self._head + orjson.dumps(choice) + b'],"usage":' + usage + extra + END

    def counts(self, usage: bytes) -> bytes:
        return self._head + b'],"usage":' + usage + END
