"""vLLM in process: the only package that imports vllm. One AsyncLLM, token ids in, pieces out.

options       what the engine is started with, and the environment it reads
starting      options → a running engine and the profile of its model
rows          the model with reserved rows for soft prompts and prefixes
bank          who has which of those rows
adapters      LoRA, soft prompts and prefixes: loaded, held, dropped
merging       a copy of the model with other weights
engines       engines beside the first, for such copies
bottleneck    adapters after the blocks of such an engine
pacing        how much of a load comes between two steps
selftest      proof at the start that LoRA requests do not touch others
rehearsal     the first load's kernels, compiled at the start
worker        what runs inside vLLM's workers; guard, prefix and slices are parts of it
tokenizer     text → ids through the model's own chat template
sleeping      no core for waiting between steps, on a processor
sampling      limits → vLLM's SamplingParams
tool_parsing  answers → the functions they call, by vLLM's own parsers
pieces        vLLM's outputs → pieces
scoring       log-probabilities of given candidates
decoding      VllmDecoder: the decoder as the server sees it
"""

from server.vllm_decoder.decoding import VllmDecoder
from server.vllm_decoder.options import EngineOptions
from server.vllm_decoder.tokenizer import VllmTokenizer

__all__ = ["EngineOptions", "VllmDecoder", "VllmTokenizer"]
