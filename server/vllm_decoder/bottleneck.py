"""Bottleneck adapters in vLLM: x + up(gelu(down(x))) after each block (Houlsby et al. 2019, 1902.00751).

Runs in the workers of an engine of its own: hooks change what every request there gets.
"""

import re
from typing import Any

# Their blocks return what they add and, apart, what they were given; the next block adds the two up.
MODELS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
NAME = re.compile(r"adapters\.(\d+)\.(down|up)\.(weight|bias)")


def insert(model: Any, path: str) -> int:
    """Hooks after the blocks; how many. Raises ValueError for a model whose blocks are not known here."""
    from safetensors.torch import load_file

    if type(model).__name__ not in MODELS:
        raise ValueError(f"bottleneck adapters are served on {', '.join(MODELS)}, not {type(model).__name__}")
    place = next(model.parameters())
    layers: dict[int, dict[str, Any]] = {}
    for name, tensor in load_file(path).items():
        found = NAME.fullmatch(name)
        if found is None:
            raise ValueError(f"{name} is no tensor of a bottleneck adapter")
        side = layers.setdefault(int(found[1]), {})
        side[f"{found[2]}_{found[3]}"] = tensor.to(device=place.device, dtype=place.dtype)
    for number, block in enumerate(model.model.layers):
        block.register_forward_hook(_hook(**layers[number]))
    return len(layers)


def _hook(*, down_weight: Any, down_bias: Any, up_weight: Any, up_bias: Any) -> Any:
    from torch.nn.functional import gelu, linear

    def after(module: Any, args: Any, out: Any) -> Any:
        added, residual = out
        inner = gelu(linear(added + residual, down_weight, down_bias))
        return added + linear(inner, up_weight, up_bias), residual

    return after
