"""Log-probabilities of given candidates, for labels and calibration."""

from collections.abc import Sequence
from typing import Any

from server.errors import EngineUnavailable


async def first_tokens(
    engine: Any, prompt: tuple[int, ...], candidates: Sequence[int], *, request_id: str, cache_salt: str = ""
) -> list[float]:
    """ln p(candidate | prompt) for each candidate id, from one decoding step.

    Raises EngineUnavailable when the engine returns nothing.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    params = SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=list(candidates),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    inputs: dict[str, Any] = {"prompt_token_ids": list(prompt)}
    if cache_salt:
        inputs["cache_salt"] = cache_salt
    async for output in engine.generate(inputs, params, request_id):
        found = output.outputs[0].logprobs[0]
        return [found[token].logprob for token in candidates]
    raise EngineUnavailable("the engine returned nothing for a scoring request")
