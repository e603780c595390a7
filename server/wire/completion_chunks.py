"""The frames of one completions stream, rendered ahead with a hole for the text (openai-surface §6)."""

import orjson

from server.records import Piece, Plan
from server.wire.answers import TokenTable, echoed
from server.wire.provenance import fewshot_object

END = b"}\n\n"


class CompletionChunks:
    """`usage` is always JSON bytes: `null`, or the counts so far.

    There is no role to announce: the first frame with text carries `fewshot`, so that its arrival is the
    first token's.
    """

    def __init__(self, plan: Plan) -> None:
        turn = plan.turn
        self.choices = turn.n * max(len(turn.prompts), 1)
        same = {
            "id": turn.id,
            "object": "text_completion",
            "created": turn.created,
            "model": turn.model,
            "system_fingerprint": plan.fingerprint,
        }
        self._plan = plan
        self._head = b"data: " + orjson.dumps(same)[:-1] + b',"choices":['
        self._text = [self._head + b'{"index":%d,"text":' % index for index in range(self.choices)]
        self._echoed = {index: echoed(plan, index) for index in range(self.choices)} if turn.echo else {}
        self._tables = [
            TokenTable(self._echoed.get(index, ""), best=turn.logprobs) for index in range(self.choices)
        ]
        self._first = b""

    def opening(self, usage: bytes) -> bytes:
        self._first = b',"fewshot":' + orjson.dumps(fewshot_object(self._plan))
        return b""

    def delta(self, piece: Piece, usage: bytes) -> bytes:
        """Empty when there is nothing to say. Called for every token, so it does as little as it can."""
        text, logprobs = piece.text, b"null"
        if self._echoed:
            text = self._echoed.pop(piece.index, "") + text
        if piece.logprobs or piece.prompt_logprobs:
            rows = self._tables[piece.index].rows(piece.prompt_logprobs, piece.logprobs)
            logprobs = orjson.dumps(rows)
        elif not text:
            return b""
        return b"".join(
            (
                self._text[piece.index],
                orjson.dumps(text),
                b',"logprobs":',
                logprobs,
                b',"finish_reason":null}],"usage":',
                usage,
                self._take_first(),
                END,
            )
        )

    def closing(self, piece: Piece, usage: bytes, extra: bytes = b"") -> bytes:
        """The end of a choice. Where one frame is first and last, the complete `fewshot` is the one sent."""
        first = self._take_first()
        tail = b'"","logprobs":null,"finish_reason":"%s"}],"usage":' % str(piece.finish).encode()
        return self._text[piece.index] + tail + usage + (extra or first) + END

    def counts(self, usage: bytes) -> bytes:
        return self._head + b'],"usage":' + usage + END

    def _take_first(self) -> bytes:
        first, self._first = self._first, b""
        return first
