"""`GET` and `POST /v1/replay/{id}`: a record, and a replay beside it (openai-surface §11)."""

from collections.abc import Mapping, Sequence
from typing import Any

from server.replay import Reason, Record, Said
from server.replaying import Remains, Replay
from server.wire.provenance import sampling_object
from server.wire.shapes import (
    COUNT,
    NUMBER,
    PAIRS,
    TEXT,
    WHOLE,
    YES_OR_NO,
    made_of,
    many,
    maybe,
    one_of,
)

IDS = many(COUNT)
CHOICE = made_of(index=COUNT, text=TEXT, token_ids=IDS, finish_reason=maybe(TEXT))
REASON = made_of(code=TEXT, message=TEXT, can_change=YES_OR_NO, recorded={}, now={})
SIDE = maybe(made_of(token_id=COUNT, text=TEXT, logprob=maybe(NUMBER)))
RECORD = made_of(
    id=TEXT,
    object=one_of("replay.record"),
    created_at=WHOLE,
    request={"type": "object"},
    fewshot={"type": "object"},
    engine={"type": "object"},
    prompt_token_ids=maybe(many(IDS)),
    output_token_ids=maybe(many(IDS)),
    output_texts=maybe(many(TEXT)),
    output_calls=many({}),
    outcome=maybe(one_of("stop", "length", "cancelled", "failed")),
    erased_at=maybe(WHOLE),
    available=made_of(
        **dict.fromkeys(
            ("template", "demos", "generations", "adapter", "model", "prompt", "answer"), YES_OR_NO
        )
    ),
)
REPLAY = made_of(
    id=TEXT,
    object=one_of("replay"),
    exact=YES_OR_NO,
    identical=maybe(YES_OR_NO),
    reasons=many(REASON),
    original=maybe(made_of(choices=many(CHOICE), outcome=maybe(TEXT))),
    replayed=maybe(made_of(choices=many(CHOICE))),
    first_difference=maybe(
        made_of(choice=COUNT, token_index=maybe(COUNT), text_index=COUNT, original=SIDE, replayed=SIDE)
    ),
    metadata=PAIRS,
)


def record_object(record: Record, remains: Remains) -> dict[str, Any]:
    """Everything written down of an answer, and what of it is still there."""
    answered = record.choices
    return {
        "id": record.id,
        "object": "replay.record",
        "created_at": int(record.at),
        "request": {
            "model": record.model,
            "messages": record.asked or record.messages,
            "metadata": record.metadata,
            "options": record.options,
            **record.noted,
        },
        "fewshot": _made_of(record, remains),
        "engine": {**record.engine, "fingerprint": record.fingerprint},
        "prompt_token_ids": record.prompts,
        "output_token_ids": None if answered is None else [said.tokens for said in answered],
        "output_texts": None if answered is None else [said.text for said in answered],
        "output_calls": record.calls,
        "outcome": record.outcome,
        "erased_at": None if record.erased_at is None else int(record.erased_at),
        "available": {
            "template": remains.template,
            "demos": remains.demos,
            "generations": remains.sources and set(record.generations) <= set(remains.generations),
            "adapter": remains.adapter,
            "model": remains.model,
            "prompt": record.prompts is not None,
            "answer": answered is not None,
        },
    }


def replay_object(replay: Replay, piece: Mapping[int, str]) -> dict[str, Any]:
    """The two answers and where they part. `piece`: what the tokens at that place read as."""
    record, difference = replay.record, replay.difference
    then, now = replay.log_probabilities or (None, None)
    return {
        "id": record.id,
        "object": "replay",
        "exact": replay.exact,
        "identical": replay.identical,
        "reasons": [_reason(reason) for reason in replay.reasons],
        "original": record.choices and {"choices": _choices(record.choices), "outcome": record.outcome},
        "replayed": replay.replayed and {"choices": _choices(replay.replayed)},
        "first_difference": difference
        and {
            "choice": difference.choice,
            "token_index": difference.token_index,
            "text_index": difference.text_index,
            "original": _side(difference.original, then, piece),
            "replayed": _side(difference.replayed, now, piece),
        },
        "metadata": record.metadata,
    }


def _made_of(record: Record, remains: Remains) -> dict[str, Any]:
    """The answer's own `fewshot` object, as far as it was written down."""
    name, _, version = (record.template or "").partition("@")
    template = {"name": name, "version": version, "sha256": record.template_sha256}
    return {
        "id": record.id,
        "unit_kind": record.unit_kind,
        "experiment": record.experiment,
        "arm": record.arm,
        "model": {"base": record.base, "base_sha256": record.base_sha256},
        "template": template if record.template else None,
        "demos": {
            "requested": record.options.get("demos_requested"),
            "used": record.demos,
            "pool_sha256": record.pool_sha256,
        },
        "generations": record.generations,
        "generations_now": remains.generations,
        "messages": record.messages,
        "prompt_sha256": record.prompt_sha256,
        "prompt_tokens": record.prompt_tokens,
        "sampling": sampling_object(record.limits),
        "grounding": record.grounding,
        "sources": [
            {
                "n": n,
                "chunk_id": chunk,
                "state": remains.chunks[chunk].state,
                "file_id": remains.chunks[chunk].file_id,
                "filename": remains.chunks[chunk].filename,
                "cited": chunk in record.cited,
            }
            for n, chunk in enumerate(record.chunks, 1)
        ],
        "citations_dropped": record.citations_dropped,
        "dropped": record.dropped,
        "timing": {
            "first_token_seconds": record.first_token_seconds,
            "total_seconds": record.total_seconds,
        },
        "others_at_work": record.others,
        "cached_tokens": record.cached_tokens,
    }


def _choices(choices: Sequence[Said]) -> list[dict[str, Any]]:
    return [
        {"index": index, "text": said.text, "token_ids": said.tokens, "finish_reason": said.finish}
        for index, said in enumerate(choices)
    ]


def _reason(reason: Reason) -> dict[str, Any]:
    return {
        "code": reason.code,
        "message": reason.says,
        "can_change": reason.can_change,
        "recorded": reason.recorded,
        "now": reason.now,
    }


def _side(token: int | None, logprob: float | None, piece: Mapping[int, str]) -> dict[str, Any] | None:
    return None if token is None else {"token_id": token, "text": piece[token], "logprob": logprob}
