"""vLLM's outputs as pieces."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from server.records import Piece, TokenLogprob


def as_pieces(output: Any, *, skip: int = 0) -> list[Piece]:
    """`skip` tokens at the prompt's beginning are an adapter's, which nobody is shown."""
    prompt_logprobs = None
    if output.prompt_logprobs:
        rows = zip(output.prompt_token_ids, output.prompt_logprobs, strict=False)
        prompt_logprobs = tuple(row and _logprob(token, row) for token, row in rows)[skip:]
    pieces = []
    for choice in output.outputs:
        tokens = tuple(choice.token_ids)
        logprobs = None
        if choice.logprobs:
            rows = zip(tokens, choice.logprobs, strict=False)
            logprobs = tuple(_logprob(token, row) for token, row in rows)
        if tokens or choice.text or choice.finish_reason:
            pieces.append(
                Piece(
                    index=choice.index,
                    text=choice.text,
                    tokens=tokens,
                    logprobs=logprobs,
                    finish=choice.finish_reason,
                    cached_tokens=output.num_cached_tokens or 0,
                    prompt_logprobs=prompt_logprobs,
                )
            )
    return pieces


def _logprob(token: int, row: Mapping[int, Any]) -> TokenLogprob:
    ranked = sorted(row.items(), key=lambda item: item[1].rank)
    best = tuple(_one(entry) for _, entry in ranked)
    return replace(_one(row[token]), top=best)


def _one(entry: Any) -> TokenLogprob:
    text = entry.decoded_token or ""
    return TokenLogprob(text, tuple(text.encode()), entry.logprob)
