"""The `fewshot` object of an answer: what it was made from (openai-surface §10.2, §10.3)."""

from typing import Any

from prompts.records import Call, Message
from server.records import Limits, Plan, Reply
from server.sources import Citation, SourceUse


def fewshot_object(plan: Plan, reply: Reply | None = None) -> dict[str, Any]:
    """Everything the plan knows; with the reply also citations and the timing of the answer.

    The keys are the same in both cases, so the first chunk of a stream already has the final shape.
    """
    turn, met = plan.turn, plan.met
    cited: list[Citation] = []
    if reply:
        cited = [citation for choice in reply.choices for citation in choice.citations]
    numbers = {citation.source.n for citation in cited}
    shown: dict[str, Any] = {
        "id": turn.id,
        "experiment": met.recipe and met.recipe.experiment,
        "phase": met.phase,
        "arm": met.recipe and met.recipe.arm,
        "assigned": met.assigned,
        "served": met.served,
        "unit_kind": met.unit_kind or turn.unit_kind,
        "model": {
            "base": plan.base,
            "base_sha256": plan.base_sha256,
            "alias": turn.model if turn.base else None,
            "adapter": plan.adapter and plan.adapter.reference,
            "adapter_kind": plan.adapter and plan.adapter.kind,
            "adapter_sha256": plan.adapter and plan.adapter.sha256,
        },
        "template": None,
        "demos": {
            "requested": plan.demos_requested,
            "used": list(plan.demos),
            "pool_sha256": plan.pool_sha256,
        },
        "generations": dict(plan.generations),
        "prompt_sha256": plan.prompt_sha256,
        "sampling": sampling_object(plan.limits),
        "grounding": plan.grounding,
        "sources": [
            source_object(source, cited=source.n in numbers, text=turn.wishes.inspect)
            for source in plan.sources
        ],
        "queries": [plan.query.text] if plan.query else [],
        "rewrite": plan.query.rewrite if plan.query else None,
        "citations": [citation_object(citation) for citation in cited],
        "citations_dropped": reply.citations_dropped if reply else 0,
        "labels": None,
        "dropped": {"sources": 0, "demos": 0, "turns": 0, **plan.dropped},
        "ignored": list(turn.ignored),
        "timing": {
            "queue_seconds": plan.queue_seconds,
            "retrieval_seconds": plan.retrieval_seconds,
            "first_token_seconds": reply.first_token_seconds if reply else None,
            "total_seconds": reply.total_seconds if reply else None,
        },
    }
    if plan.template:
        used = plan.template
        shown["template"] = {"name": used.name, "version": used.version, "sha256": used.sha256}
    if turn.wishes.unsupported:
        shown["unsupported"] = [
            list(span) for choice in (reply.choices if reply else ()) for span in choice.unsupported
        ]
    if turn.wishes.inspect:
        shown["messages"] = [_message(message) for message in plan.messages]
    return shown


def _message(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.calls:
        shown["tool_calls"] = [call_object(call) for call in message.calls]
    if message.answers is not None:
        shown["tool_call_id"] = message.answers
    return shown


def call_object(call: Call) -> dict[str, Any]:
    """A call in chat's words."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def citation_object(citation: Citation) -> dict[str, Any]:
    """§10.3. Offsets are half-open code points; pages are 1-based, null where the format has none."""
    source = citation.source
    return {
        "n": source.n,
        "file_id": source.file_id,
        "filename": source.filename,
        "vector_store_id": source.store_id,
        "chunk_id": source.chunk_id,
        "generation": source.generation,
        "page_start": source.page_start,
        "page_end": source.page_end,
        "char_start": citation.char_start,
        "char_end": citation.char_end,
        "answer_start": citation.answer_start,
        "answer_end": citation.answer_end,
        "marker_start": citation.marker_start,
        "marker_end": citation.marker_end,
        "check": citation.check,
        "support": citation.support and round(citation.support, 4),
    }


def source_object(source: SourceUse, *, cited: bool, text: bool) -> dict[str, Any]:
    """What a retrieved chunk was, with its text if asked for."""
    shown = {
        "n": source.n,
        "file_id": source.file_id,
        "filename": source.filename,
        "title": source.title,
        "external_id": source.external_id,
        "vector_store_id": source.store_id,
        "chunk_id": source.chunk_id,
        "page_start": source.page_start,
        "page_end": source.page_end,
        "char_start": source.char_start,
        "char_end": source.char_end,
        "score": source.score,
        "used": source.used,
        "cited": cited and source.used,  # 0 is the number of every source that did not fit
    }
    return {**shown, "text": source.text} if text else shown


def sampling_object(limits: Limits) -> dict[str, Any]:
    """The values really used, whoever decided them: what a caller needs to ask for the same draw again."""
    return {
        "temperature": limits.temperature,
        "top_p": limits.top_p,
        "top_k": limits.top_k,
        "min_p": limits.min_p,
        "frequency_penalty": limits.frequency_penalty,
        "presence_penalty": limits.presence_penalty,
        "repetition_penalty": limits.repetition_penalty,
        "seed": limits.seed,
        "max_tokens": limits.max_tokens,
        "stop": list(limits.stop),
    }
