"""Parts of OpenAI-shaped answers that whole bodies and streams share, so that the two cannot drift apart."""

from collections.abc import Sequence
from typing import Any

from server.records import Citation, SourceUse, TokenLogprob, Usage
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


def chat_logprobs(logprobs: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    if logprobs is None:
        return None
    return {"content": [_token(token, alternatives=True) for token in logprobs], "refusal": None}


def annotations(citations: Sequence[Citation], public_url: str) -> list[dict[str, Any]]:
    """One `url_citation` a citation, the only type chat clients know. Its span is the marker in `content`."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": _url(citation.source, public_url),
                "title": _title(citation.source),
                "start_index": citation.marker_start,
                "end_index": citation.marker_end,
            },
            "fewshot": citation_object(citation),
        }
        for citation in citations
    ]


def _token(token: TokenLogprob, *, alternatives: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"token": token.token, "bytes": list(token.bytes), "logprob": token.logprob}
    if alternatives:
        shown["top_logprobs"] = [_token(other, alternatives=False) for other in token.top]
    return shown


def _url(source: SourceUse, public_url: str) -> str:
    own = source.attributes.get("url")
    if isinstance(own, str) and own:
        return own
    page = f"#page={source.page_start}" if source.page_start else ""
    return f"{public_url.rstrip('/')}/v1/files/{source.file_id}/content{page}"


def _title(source: SourceUse) -> str:
    return f"{source.filename}, p. {source.page_start}" if source.page_start else source.filename
