"""A LoRA into the slots of vLLM's manager in slices: runs in the worker, between the steps of requests.

vLLM's `add_lora` reads, packs, registers and writes all modules between two steps, and whoever is being
answered waits for that. Here the same calls are made module by module, and the caller may stop after each.
What is not plain (experts, pooling, files other than safetensors, names that the model does not have) is left
to vLLM in one go: it knows how, or says why not.
"""

import os
from collections import defaultdict
from collections.abc import Generator
from typing import Any

TENSORS = "adapter_model.safetensors"
PASSED_ON = ("device", "dtype", "model_vocab_size", "weights_mapper", "skip_prefixes")
NAMES = 32  # that are sorted at a time, about as long as one module takes
Parts = dict[str, list[str]]  # modules of the file that one of the engine's is packed of → their tensors


def load(manager: Any, request: Any) -> Generator[None]:
    """Each `next` is about one module's work; in the end all is as after the manager's own `add_adapter`.

    `manager` is vLLM's LRUCacheWorkerLoRAManager. Raises what it raises. Closed or failed half-way, nothing
    of the LoRA is left there; the adapter that was used longest ago may have lost its slot to it.
    """
    slots = manager._adapter_manager
    if request.lora_int_id not in manager.list_adapters() and not (slots._is_moe or slots.is_pooling_model):
        reading = _Reading(manager, request)
        yield
        modules = yield from reading.modules(slots)
        for module, parts in modules.items():
            reading.take(module, parts)
            yield
        if modules:
            yield from _keep(slots, reading.lora)
    manager.add_adapter(request)  # touches what is registered; else it is the whole load
    slots._last_mapping = None  # vLLM 0.25 makes its tables anew when requests change, and not when slots do


class _Reading:
    """A file to be read module by module, as vLLM would."""

    def __init__(self, manager: Any, request: Any) -> None:
        """Raises what vLLM raises for a configuration that it does not take."""
        from vllm.lora.lora_model import LoRAModel

        self._model: Any = LoRAModel
        self._number, self._folder = request.lora_int_id, request.lora_path
        self._file: Any = None
        reader = manager._lora_model_cls
        manager._lora_model_cls = self  # so vLLM checks the configuration and tells how it would read
        try:
            self.lora = manager._load_adapter(request)
        finally:
            manager._lora_model_cls = reader

    def from_local_checkpoint(self, folder: str, expected: set[str], **said: Any) -> Any:
        """In the place of vLLM's own, which would read every tensor: a LoRA without any."""
        self._peft = said["peft_helper"]
        self._said = {name: said[name] for name in PASSED_ON if name in said}
        return self._model(self._number, self._peft.r, {})

    def modules(self, slots: Any) -> Generator[None, None, dict[str, Parts]]:
        """The engine's modules that the file has; none where that is not all that it has."""
        from safetensors import safe_open
        from vllm.lora.utils import parse_fine_tuned_lora_name

        path = os.path.join(self._folder, TENSORS)
        if not os.path.isfile(path):
            return {}
        self._file = safe_open(path, framework="pt")
        skipped = self._said.get("skip_prefixes") or []
        named: Parts = defaultdict(list)
        for count, name in enumerate(self._file.keys()):
            try:
                module, _ = parse_fine_tuned_lora_name(name, self._said.get("weights_mapper"))
            except ValueError:
                return {}
            if self._model._should_skip_module(name, skipped):
                return {}
            named[module].append(name)
            if count % NAMES == NAMES - 1:
                yield
        found = {}
        for module in slots.modules:
            parts = {part: named.pop(part, []) for part in slots.packed_modules.get(module, [module])}
            if any(parts.values()):
                found[module] = parts
        return {} if named else found

    def take(self, module: str, parts: Parts) -> None:
        """Read one module of the engine, scaled and packed as vLLM does."""
        from vllm.lora.lora_weights import PackedLoRALayerWeights

        tensors = {name: self._file.get_tensor(name) for names in parts.values() for name in names}
        read = self._model.from_lora_tensors(self._number, tensors, self._peft, **self._said).loras
        if list(parts) == [module]:
            self.lora.loras[module] = read[module].optimize()
        else:
            self.lora.loras[module] = PackedLoRALayerWeights.pack([read.get(part) for part in parts])


def _keep(slots: Any, lora: Any) -> Generator[None]:
    """Write into a slot and register. The slot is taken first, so that nobody else's weights go there."""
    if len(slots._active_adapters) >= slots.lora_slots:
        slots._active_adapters.remove_oldest()
    slot = slots.lora_index_to_id.index(None)
    slots._active_adapters[lora.id] = None
    slots.lora_index_to_id[slot] = lora.id
    slots._last_mapping = None
    try:
        for name, module in slots.modules.items():
            if slots.lora_index_to_id[slot] != lora.id:
                break  # requests in a step needed the slot: vLLM will write into another one, in one go
            slots._active_adapters.touch(lora.id)
            weights = lora.loras.get(name)
            if weights is None:
                module.reset_lora(slot)
            else:
                module.set_lora(slot, weights.lora_a, weights.lora_b)
            yield
        if len(slots) >= slots.capacity:
            slots.remove_oldest_adapter()
        slots._registered_adapters[lora.id] = lora
    except BaseException:
        slots.deactivate_adapter(lora.id)
        raise
