"""Parts of OpenAI-shaped answers that whole bodies and streams share, so that the two cannot drift apart."""

from collections.abc import Sequence
from typing import Any

from server.links import source_title, source_url
from server.records import Plan, TokenLogprob, Usage
from server.sources import Citation
from server.wire.provenance import citation_object


def usage_object(usage: Usage) -> dict[str, Any]:
    """Counts of the prompt that was really sent, not of the caller's text."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def chat_logprobs(logprobs: Sequence[TokenLogprob] | None, best: int | None) -> dict[str, Any] | None:
    """`best` alternatives a token; engines may know one more, the token drawn."""
    if logprobs is None:
        return None
    content = [
        {**_token(token), "top_logprobs": [_token(other) for other in token.top[: best or 0]]}
        for token in logprobs
    ]
    return {"content": content, "refusal": None}


class TokenTable:
    """The four columns in which completions report tokens. Remembers where the text has got to."""

    def __init__(self, echoed: str, *, best: int | None) -> None:
        self._echoed = echoed
        self._best = best
        self._begun = len(echoed)  # code points begun so far

    def rows(
        self, prompt: Sequence[TokenLogprob | None] | None, answer: Sequence[TokenLogprob] | None
    ) -> dict[str, Any] | None:
        """The next tokens; `prompt` only with the first of a choice and with echo. None: there are none.

        Offsets count code points of the choice's text. A token that ends a code point begun by the token
        before it points at that code point.
        """
        if self._best is None or not (prompt or answer):
            return None
        columns: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        if prompt:
            self._begun = 0
            # Nothing comes before the first token, so it has no log-probability and arrives without its text.
            rest = "".join(token.token for token in prompt if token)
            first = self._echoed.removesuffix(rest) if self._echoed.endswith(rest) else ""
            for token in prompt:
                self._add(columns, token, first)
            self._begun = len(self._echoed)
        for token in answer or ():
            self._add(columns, token, "")
        return columns

    def _add(self, columns: dict[str, list[Any]], token: TokenLogprob | None, text: str) -> None:
        data = text.encode() if token is None else bytes(token.bytes)
        continues = bool(data) and _continues(data[0]) and self._begun > 0
        columns["text_offset"].append(self._begun - 1 if continues else self._begun)
        self._begun += sum(not _continues(byte) for byte in data)
        if token is None:
            columns["tokens"].append(text)
            columns["token_logprobs"].append(None)
            columns["top_logprobs"].append(None)
            return
        best = {other.token: other.logprob for other in reversed(token.top[: self._best])}
        columns["tokens"].append(token.token)
        columns["token_logprobs"].append(token.logprob)
        columns["top_logprobs"].append({**best, token.token: token.logprob})


def _continues(byte: int) -> bool:
    """Whether this byte of UTF-8 belongs to a code point begun before it."""
    return byte & 0xC0 == 0x80


def echoed(plan: Plan, choice: int) -> str:
    """The prompt's text that `echo` puts before the answer of a choice; choices are prompt-major."""
    turn = plan.turn
    if not turn.echo:
        return ""
    number = choice // turn.n
    if plan.echoed:
        return plan.echoed[number]
    prompt = turn.prompts[number]
    if isinstance(prompt, str):
        return prompt
    raise LookupError("echo of token ids needs Plan.echoed")


def annotations(citations: Sequence[Citation], public_url: str) -> list[dict[str, Any]]:
    """One `url_citation` a citation, the only type chat clients know. Its span is the marker in `content`."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": source_url(citation.source, public_url),
                "title": source_title(citation.source),
                "start_index": citation.marker_start,
                "end_index": citation.marker_end,
            },
            "fewshot": citation_object(citation),
        }
        for citation in citations
    ]


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "bytes": list(token.bytes), "logprob": token.logprob}
