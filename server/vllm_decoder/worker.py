"""What runs inside vLLM's workers: mixed into the worker class, called by name through collective_rpc.

Strings and numbers go in and out: anything else would need vLLM's insecure serialisation.
"""

import time
from collections.abc import Generator
from typing import Any

from indexer.machine import free_memory_bytes, memory_bytes
from server.vllm_decoder import bottleneck, guard, prefix, slices


class AdapterWorker:
    """Method names must not clash with the worker's own."""

    model_runner: Any
    loras_coming: dict[int, Generator[None]] | None = None  # by number, each stopped at some module

    def guard_lora(self) -> int:
        """Make LoRA right on the CPU backend; how many operators were replaced."""
        return guard.install()

    def memory(self) -> list[int]:
        """[free, all of it] where models run, bytes."""
        import torch
        from vllm.platforms import current_platform

        if current_platform.is_cpu():
            return [free_memory_bytes(), memory_bytes()]
        return list(torch.cuda.mem_get_info())

    def load_lora(self, number: int, name: str, folder: str, seconds: float) -> list[float]:
        """Go on loading a LoRA for about `seconds`, at least by a module; [1 when it is there, seconds].

        Raises what vLLM raises for one that it does not take; then nothing of it is left.
        """
        from vllm.lora.request import LoRARequest

        began = time.perf_counter()
        if self.loras_coming is None:
            self.loras_coming = {}
        if number not in self.loras_coming:
            request = LoRARequest(name, number, folder)
            self.loras_coming[number] = slices.load(self.model_runner.lora_manager, request)
        coming = self.loras_coming.pop(number)
        for _ in coming:
            if time.perf_counter() - began >= seconds:
                self.loras_coming[number] = coming
                return [0.0, time.perf_counter() - began]
        return [1.0, time.perf_counter() - began]

    def drop_lora(self, number: int) -> bool:
        """Forget a LoRA, loaded or half-loaded; whether there was any."""
        coming = (self.loras_coming or {}).pop(number, None)
        if coming is not None:
            coming.close()
        return bool(self.model_runner.lora_manager.remove_adapter(number)) or coming is not None

    def load_soft_rows(self, path: str, start: int) -> int:
        """Copy a soft prompt into the embedding's rows from id `start` on; rows written here."""
        import torch
        from safetensors.torch import load_file

        (vectors,) = load_file(path).values()
        embedding = self._embedding()
        weight = embedding.weight.data
        if vectors.dim() != 2 or vectors.shape[1] != weight.shape[1] or not torch.isfinite(vectors).all():
            raise ValueError(f"a soft prompt of shape {tuple(vectors.shape)} does not fit {weight.shape[1]}")
        mine = embedding.shard_indices  # under tensor parallelism each rank holds a range of ids
        first = max(start, mine.org_vocab_start_index)
        last = min(start + len(vectors), mine.org_vocab_end_index)
        if first >= last:
            return 0
        at = first - mine.org_vocab_start_index
        # In place: captured CUDA graphs keep their pointer.
        weight[at : at + last - first].copy_(vectors[first - start : last - start].to(weight.dtype))
        return int(last - first)

    def insert_bottlenecks(self, path: str) -> int:
        """Bottleneck adapters after all blocks, for every request; how many."""
        return bottleneck.insert(self.model_runner.get_model(), path)

    def mask_soft_rows(self, first: int) -> bool:
        """Never let ids from `first` on be generated: their rows hold soft prompts, or zeros."""
        model = self.model_runner.get_model()
        compute = model.compute_logits

        def masked(*args: Any, **kwargs: Any) -> Any:
            logits = compute(*args, **kwargs)
            if logits is not None:
                logits[..., first:] = -float("inf")
            return logits

        model.compute_logits = masked
        return True

    def load_prefix(self, path: str, start: int) -> int:
        """Keep a prefix's keys and values for the prompts that begin with the ids from `start` on; tokens."""
        layers = len(self.model_runner.kv_caches)
        cache = self.model_runner.get_model().config
        head = getattr(cache, "head_dim", None) or cache.hidden_size // cache.num_attention_heads
        return prefix.keep(path, start, layers=layers, head=head)

    def drop_prefix(self, start: int) -> bool:
        return prefix.drop(start)

    def _embedding(self) -> Any:
        from vllm.model_executor.layers.vocab_parallel_embedding import (
            ParallelLMHead,
            VocabParallelEmbedding,
        )

        for module in self.model_runner.get_model().modules():  # LoRA's wrapper has it as base_layer
            if isinstance(module, VocabParallelEmbedding) and not isinstance(module, ParallelLMHead):
                return module
        raise ValueError("this model has no input embedding that could take soft prompts")
