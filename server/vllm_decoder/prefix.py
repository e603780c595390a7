"""Prefix tuning in vLLM: a KV connector that puts trained keys and values where a prompt's first blocks are.

A prefix of n tokens owns n reserved ids; a prompt that begins with them needs no computing there. The
scheduler's side tells a prefix by its ids alone: all from `first` on belong to prefixes, and no other prompt
may hold one. The worker's side holds the tensors by the id they begin with. Once written, vLLM's own prefix
cache keeps the blocks, apart by salt.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorMetadata

if TYPE_CHECKING:
    import torch

_KEPT: dict[
    int, tuple["torch.Tensor", "torch.Tensor"]
] = {}  # first id → keys, values (layer, token, head, dim)


def keep(path: str, start: int, *, layers: int, head: int) -> int:
    """Read a prefix, as `k` and `v` (layer, head, token, dim) or as peft stores it; its tokens."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(path)
    if "k" in tensors:
        keys, values = (tensors[name].transpose(1, 2) for name in "kv")
    else:
        (packed,) = tensors.values()  # (token, layer · {key, value} · head · dim)
        both = packed.view(len(packed), layers, 2, -1, head).permute(2, 1, 0, 3, 4)
        keys, values = both[0], both[1]
    if not (torch.isfinite(keys).all() and torch.isfinite(values).all()) or len(keys) != layers:
        raise ValueError(f"a prefix of {len(keys)} layers does not fit {layers}")
    _KEPT[start] = keys.contiguous(), values.contiguous()
    return int(keys.shape[1])


def drop(start: int) -> bool:
    return _KEPT.pop(start, None) is not None


def layer_number(name: str) -> int:
    """`model.layers.10.self_attn.attn` → 10: names do not sort as layers do."""
    return next(int(part) for part in name.split(".") if part.isdigit())


@dataclass
class Write:
    """Blocks of one request to fill from token `begin` of the prefix on."""

    start: int  # first id of the prefix
    begin: int
    blocks: list[int]


@dataclass
class Writes(KVConnectorMetadata):
    writes: list[Write] = field(default_factory=list)


class PrefixConnector(KVConnectorBase_V1):
    """See the module. Loading is synchronous: the next forward pass finds the blocks filled."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        self._block = vllm_config.cache_config.block_size
        self._first = int(vllm_config.kv_transfer_config.kv_connector_extra_config["first"])
        self._writes: list[Write] = []
        self._failed: set[int] = set()

    # ── the scheduler's side

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int, bool]:
        return max(self._length(request) - num_computed_tokens, 0), False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """For new requests, and again for those that come back after they were preempted."""
        if not num_external_tokens:
            return
        length = self._length(request)
        begin = length - num_external_tokens
        own = blocks.get_block_ids()[0][begin // self._block : length // self._block]
        self._writes.append(Write(request.prompt_token_ids[0], begin, list(own)))

    def build_connector_meta(self, scheduler_output: Any) -> Writes:
        writes, self._writes = self._writes, []
        return Writes(writes)

    def _length(self, request: Any) -> int:
        ids = request.prompt_token_ids or []
        return next((at for at, token in enumerate(ids) if token < self._first), len(ids))

    # ── the worker's side

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, Writes)
        if metadata.writes:
            layers = _attention_layers(forward_context.no_compile_layers)
            for write in metadata.writes:
                self._fill(write, layers)

    def _fill(self, write: Write, layers: Mapping[int, Any]) -> None:
        import torch

        if write.start not in _KEPT:
            self._failed.update(write.blocks)  # the request fails: it must not answer without its prefix
            return
        keys, values = _KEPT[write.start]
        end = write.begin + len(write.blocks) * self._block
        offsets = torch.arange(self._block)
        slots = (torch.tensor(write.blocks)[:, None] * self._block + offsets).flatten()
        for number, layer in layers.items():
            cache = layer.kv_cache
            # Of this rank's heads under tensor parallelism: each holds a run of them.
            heads = slice(None)
            if keys.shape[2] != layer.num_kv_heads:
                from vllm.distributed import get_tensor_model_parallel_rank

                begin = get_tensor_model_parallel_rank() * layer.num_kv_heads
                heads = slice(begin, begin + layer.num_kv_heads)
            place = {"device": cache.device, "dtype": cache.dtype}
            key = keys[number, write.begin : end, heads].to(**place).contiguous()
            value = values[number, write.begin : end, heads].to(**place).contiguous()
            layer.impl.do_kv_cache_update(layer, key, value, cache, slots.to(cache.device))

    def get_block_ids_with_load_errors(self) -> set[int]:
        failed, self._failed = self._failed, set()
        return failed

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Everything was written by start_load_kv."""

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None:
        """Nothing leaves the engine."""

    def wait_for_save(self) -> None:
        """Nothing leaves the engine."""


def _attention_layers(layers: Mapping[str, Any]) -> dict[int, Any]:
    return {layer_number(name): layer for name, layer in layers.items() if hasattr(layer, "kv_cache")}
