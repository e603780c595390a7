"""Limits as vLLM's SamplingParams, and back from what a model says of itself."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from server.records import Limits, Sampling


def own_sampling(said: Mapping[str, Any]) -> Sampling:
    known = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return Sampling(**{name: said[name] for name in known if name in said})


@cache
def _classes() -> tuple[Any, Any, Any]:
    """vLLM's, imported when first needed: its lazy imports look for them every time."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams, StructuredOutputsParams, RequestOutputKind.DELTA


def sampling_params(limits: Limits, *, special_tokens: bool = False) -> Any:
    """`special_tokens` leaves them in the text: the marks by which some models tell calls from words."""
    SamplingParams, StructuredOutputsParams, DELTA = _classes()
    structured = None
    if limits.schema is not None:
        structured = (
            StructuredOutputsParams(json=dict(limits.schema))
            if limits.schema
            else StructuredOutputsParams(json_object=True)
        )
    params = SamplingParams(
        n=limits.n,
        max_tokens=limits.max_tokens,
        temperature=limits.temperature,
        top_p=limits.top_p,
        top_k=limits.top_k,
        min_p=limits.min_p,
        frequency_penalty=limits.frequency_penalty,
        presence_penalty=limits.presence_penalty,
        repetition_penalty=limits.repetition_penalty,
        seed=limits.seed,
        stop=list(limits.stop) or None,
        logit_bias=dict(limits.logit_bias) or None,
        ignore_eos=limits.ignore_eos,
        logprobs=limits.logprobs,
        prompt_logprobs=limits.prompt_logprobs,
        structured_outputs=structured,
        skip_special_tokens=not special_tokens,
        output_kind=DELTA,  # cumulative output would be quadratic in length
    )
    if hasattr(params, "skip_clone"):
        params.skip_clone = True  # of one request and nobody else's: vLLM need not copy its fifty fields
    return params
