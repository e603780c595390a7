"""Log-probabilities of given candidates, for labels and calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

from server.errors import EngineUnavailable


async def first_tokens(
    engine: Any, inputs: Mapping[str, Any], candidates: Sequence[int], *, request_id: str, lora: Any = None
) -> list[float]:
    """ln p(candidate | inputs) for each candidate id, from one decoding step.

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
    async for output in engine.generate(inputs, params, request_id, lora_request=lora):
        found = output.outputs[0].logprobs[0]
        return [found[token].logprob for token in candidates]
    raise EngineUnavailable("the engine returned nothing for a scoring request")
