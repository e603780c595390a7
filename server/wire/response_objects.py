"""The response object and its items: one builder for whole answers, streams and the store."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from prompts.records import Call
from server.records import Choice, Plan, Reply, TokenLogprob, Usage
from server.sources import Citation, SourceUse
from server.wire.answers import chat_logprobs
from server.wire.provenance import citation_object, fewshot_object
from server.wire.responses import RESULTS, ResponseAsk

Status = Literal["in_progress", "completed", "incomplete", "failed"]


def response_object(
    ask: ResponseAsk, plan: Plan, reply: Reply | None = None, *, stored: bool, failure: str | None = None
) -> dict[str, Any]:
    """The whole response with every result of its search; `shown` takes out what was not asked for.

    Without a reply it is in progress, or failed with `failure`, and has no output.
    """
    turn, limits = plan.turn, plan.limits
    status: Status = "failed" if failure else "in_progress"
    if reply is not None:
        status = "incomplete" if reply.outcome == "length" else "completed"
    return {
        "id": turn.id,
        "object": "response",
        "created_at": turn.created,
        "completed_at": turn.created + int(reply.total_seconds) if reply else None,
        "status": status,
        "error": {"code": "server_error", "message": failure} if failure else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": ask.instructions,
        "model": turn.model,
        "output": output_items(plan, reply.choices[0]) if reply else [],
        "previous_response_id": ask.previous,
        "temperature": limits.temperature,
        "top_p": limits.top_p,
        "metadata": dict(turn.metadata),
        "background": False,
        "store": stored,
        "service_tier": "default",
        **ask.echoed,
        "usage": usage_object(reply.usage) if reply else None,
        "fewshot": fewshot_object(plan, reply),
    }


def shown(response: Mapping[str, Any], include: frozenset[str]) -> dict[str, Any]:
    """The response as the caller asked to see it."""
    if RESULTS in include:
        return dict(response)
    output = [
        {**item, "results": None} if item["type"] == "file_search_call" else item
        for item in response["output"]
    ]
    return {**response, "output": output}


def output_items(plan: Plan, choice: Choice) -> list[dict[str, Any]]:
    """The search, then words and calls in the order in which they began; no words are no message."""
    searched = [search_item(plan)] if plan.turn.search.stores else []
    calls = [
        call_item(plan, at, call, cut=choice.finish == "length" and at == len(choice.calls) - 1)
        for at, call in enumerate(choice.calls)
    ]
    if choice.text or not calls:
        calls.insert(choice.calls_before_text, message_item(plan, choice))
    return [*searched, *calls]


def search_item(plan: Plan) -> dict[str, Any]:
    """The search, with every hit whether it reached the prompt or not."""
    return {
        "type": "file_search_call",
        "id": f"fs_{_key(plan)}",
        "status": "completed",
        "queries": [plan.query.text if plan.query else plan.turn.question],
        "results": [_result(source) for source in plan.sources],
    }


def message_item(plan: Plan, choice: Choice | None = None) -> dict[str, Any]:
    """The answer; without a choice it has only begun."""
    status: Status = "in_progress"
    if choice is not None:
        status = "incomplete" if choice.finish == "length" else "completed"
    return {
        "type": "message",
        "id": message_id(plan),
        "role": "assistant",
        "status": status,
        "content": [text_part(plan, choice)] if choice else [],
    }


def call_item(plan: Plan, at: int, call: Call, *, cut: bool = False) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{_key(plan)}{at:04d}",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": "incomplete" if cut else "completed",
    }


def text_part(plan: Plan, choice: Choice | None = None) -> dict[str, Any]:
    return {
        "type": "output_text",
        "text": choice.text if choice else "",
        "annotations": file_citations(choice.citations) if choice else [],
        "logprobs": response_logprobs(choice.logprobs if choice else None, plan.turn.logprobs),
    }


def file_citations(citations: Sequence[Citation]) -> list[dict[str, Any]]:
    """`index` is the offset of the marker in the text."""
    return [
        {
            "type": "file_citation",
            "file_id": citation.source.file_id,
            "filename": citation.source.filename,
            "index": citation.marker_start,
            "fewshot": citation_object(citation),
        }
        for citation in citations
    ]


def response_logprobs(logprobs: Sequence[TokenLogprob] | None, best: int | None) -> list[dict[str, Any]]:
    found = chat_logprobs(logprobs, best)
    return list(found["content"]) if found else []


def usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def message_id(plan: Plan) -> str:
    return f"msg_{_key(plan)}"


def _key(plan: Plan) -> str:
    return plan.turn.id.removeprefix("resp_")


def _result(source: SourceUse) -> dict[str, Any]:
    return {
        "file_id": source.file_id,
        "filename": source.filename,
        "score": source.score,
        "text": source.text,
        "attributes": dict(source.attributes),
        "fewshot": {
            "chunk_id": source.chunk_id,
            "page_start": source.page_start,
            "page_end": source.page_end,
            "char_start": source.char_start,
            "char_end": source.char_end,
            "vector_store_id": source.store_id,
            "used": source.used,
        },
    }
