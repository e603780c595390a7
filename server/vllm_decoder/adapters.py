"""The engine's side of adapters: LoRA through vLLM's own slots, soft prompts and prefixes by reserved ids.

What changes the base's own weights runs in an engine of its own.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.errors import AdapterInUse, EngineUnavailable, InvalidValue
from server.loadables import Loadable
from server.vllm_decoder.bank import Bank, BankFull
from server.vllm_decoder.engines import KINDS, Engines, Room
from server.vllm_decoder.options import EngineOptions
from server.vllm_decoder.pacing import LoraLoading
from server.vllm_decoder.selftest import prove_lora
from server.vllm_decoder.starting import reserve_rows

log = logging.getLogger("fewshot.adapters")
WEIGHTS = ("weights.safetensors", "adapter_model.safetensors")


@dataclass(frozen=True, slots=True)
class Held:
    """An adapter in the engine."""

    adapter: Loadable
    ids: tuple[int, ...] = ()  # that stand before a prompt
    lora: Any = None
    engine: Any = None  # its own, where it has one


class VllmAdapters:
    """Loads into a running engine, or beside it.

    `loras` at once in its memory; `bank` and `prefixes` are ranges of ids; `engines` are the others;
    `step_seconds` is what a step of one request takes.
    """

    def __init__(
        self,
        engine: Any,
        *,
        loras: int,
        bank: Bank | None,
        prefixes: Bank | None,
        engines: Engines | None = None,
        step_seconds: float = 0.0,
    ) -> None:
        self._engine = engine
        self._loading = LoraLoading(engine, step_seconds)
        self._loras = loras
        self._bank = bank
        self._prefixes = prefixes
        self._engines = engines
        self._held: dict[str, Held] = {}
        self._coming: set[str] = set()  # LoRAs that take room already

    @property
    def kinds(self) -> frozenset[str]:
        there = (("lora", self._loras), ("soft-prompt", self._bank), ("prefix", self._prefixes))
        return frozenset(kind for kind, room in there if room) | (KINDS if self._engines else frozenset())

    def held(self, reference: str | None) -> Held | None:
        """What a request on this adapter needs; None for the base.

        Raises InvalidValue for one that is not loaded: nothing may answer in its place.
        """
        if reference is None:
            return None
        if reference not in self._held:
            raise InvalidValue(f"the adapter {reference} is not in the engine", param="model")
        return self._held[reference]

    async def load(self, adapter: Loadable) -> None:
        if adapter.reference in self._held:
            return
        self._held[adapter.reference] = await self._loaded(adapter)

    async def unload(self, reference: str) -> None:
        held = self._held.pop(reference, None)
        if held is None:
            return
        if held.engine is not None and self._engines is not None:
            await self._engines.unload(reference)
            return
        if held.lora is not None:
            await self._engine.remove_lora(held.lora.lora_int_id)
            return
        if held.adapter.kind == "prefix":
            await self._call("drop_prefix", held.ids[0])
        self._bank_of(held.adapter.kind).give_back(held.ids)

    async def loaded(self) -> frozenset[str]:
        there = await self._engine.list_loras() if self._loras else set()
        return frozenset(
            reference
            for reference, held in self._held.items()
            if held.lora is None or held.lora.lora_int_id in there
        )

    def lost(self) -> frozenset[str]:
        """The references of those whose own engine has died; they must be unloaded."""
        return self._engines.lost() if self._engines else frozenset()

    async def close(self) -> None:
        """The other engines; the first is its owner's."""
        if self._engines is not None:
            await self._engines.close()

    async def _loaded(self, adapter: Loadable) -> Held:
        if adapter.kind == "lora":
            return await self._load_lora(adapter)
        if adapter.kind in KINDS and self._engines is not None:
            return Held(adapter, engine=await self._engines.load(adapter))
        return await self._load_rows(adapter)

    async def _load_lora(self, adapter: Loadable) -> Held:
        from vllm.lora.request import LoRARequest

        full = [reference for reference, held in self._held.items() if held.lora is not None]
        full += self._coming
        if len(full) >= self._loras:
            raise AdapterInUse(
                f"the engine holds {len(full)} LoRA adapters, all it has room for; unload one of "
                f"{', '.join(sorted(full)[:5])}, or raise engine.live_loras",
                param="id",
            )
        request = LoRARequest(adapter.reference, adapter.number, str(adapter.folder))
        self._coming.add(adapter.reference)
        try:
            await self._loading.load(adapter.number, adapter.reference, str(adapter.folder))
        except Exception as problem:
            raise self._refusal(adapter, problem) from problem
        finally:
            self._coming.discard(adapter.reference)
        return Held(adapter, lora=request)

    async def _load_rows(self, adapter: Loadable) -> Held:
        bank = self._bank_of(adapter.kind)
        block = self._engine.vllm_config.cache_config.block_size
        if adapter.kind == "prefix" and adapter.length % block:
            raise InvalidValue(
                f"{adapter.reference} has {adapter.length} tokens and this engine's KV blocks {block}: a "
                "prefix must fill whole ones. Train one of another length, or set engine.block",
                param="id",
            )
        try:
            ids = bank.take(adapter.length)
        except BankFull as problem:
            names = sorted(
                reference for reference, held in self._held.items() if held.adapter.kind == adapter.kind
            )
            raise AdapterInUse(
                f"{adapter.reference} needs {adapter.length} reserved rows together, {problem.free} are "
                f"free; unload one of {', '.join(names[:5])}, or raise engine.soft_rows",
                param="id",
            ) from None
        method = "load_prefix" if adapter.kind == "prefix" else "load_soft_rows"
        file = next(adapter.folder / name for name in WEIGHTS if (adapter.folder / name).is_file())
        try:
            written = await self._call(method, str(file), ids[0])
        except Exception as problem:
            bank.give_back(ids)
            raise self._refusal(adapter, problem) from problem
        if written != adapter.length:
            bank.give_back(ids)
            raise InvalidValue(f"the engine took {written} of {adapter.length} rows", param="id")
        return Held(adapter, ids=ids)

    async def _call(self, method: str, *args: Any) -> int:
        """Rows are spread over the ranks; a prefix is whole on each."""
        results = await self._engine.collective_rpc(method, args=args)
        return int(sum(results) if method == "load_soft_rows" else results[0])

    def _bank_of(self, kind: str) -> Bank:
        bank = self._prefixes if kind == "prefix" else self._bank
        if bank is None:
            raise InvalidValue(f"the engine was started without room for a {kind}", param="kind")
        return bank

    def _refusal(self, adapter: Loadable, problem: Exception) -> Exception:
        if self._engine.errored:
            return EngineUnavailable("the engine has died; it is not answering")
        log.error("adapters: the engine refuses %s: %s", adapter.reference, problem)
        return InvalidValue(
            f"the engine refuses {adapter.reference}: its modules are not those that this engine can adapt, "
            "or its files changed; the server's log has the engine's words",
            param="id",
        )


def inputs_of(prompt: Sequence[int], salt: str, held: Held | None) -> dict[str, Any]:
    """The engine's inputs for a prompt on an adapter.

    Rows and prefixes go by ids that others may have had before, so the version is part of the salt, always.
    """
    from vllm.inputs import tokens_input  # as vLLM's renderer would make it, on a thread of its own

    ids = held.ids if held else ()
    if held and ids:
        salt = f"{salt}.{held.adapter.reference}"
    inputs: dict[str, Any] = dict(tokens_input([*ids, *prompt], cache_salt=salt or None))
    return inputs


def _check_cache(config: Any) -> None:
    """Raises ValueError where a prefix's keys and values could not be put into the cache as they are."""
    text = config.model_config.hf_text_config
    if config.model_config.use_mla:
        raise ValueError("this model's cache holds no keys and values (MLA); set engine.prefix_rows = 0")
    if getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True):
        raise ValueError("this model's layers forget (sliding window); set engine.prefix_rows = 0")
    if str(config.cache_config.cache_dtype) not in ("auto", "float32", "bfloat16", "float16"):
        raise ValueError("the KV cache is quantised; set engine.prefix_rows = 0, or store it whole")


async def adapting(engine: Any, options: EngineOptions) -> VllmAdapters | None:
    """Make the engine ready for adapters, and prove it; None where there is to be room for none.

    Raises LoraBroken, or what the engine raises.
    """
    rows = reserve_rows(options)
    if not options.extended:
        return None
    step_seconds = 0.0
    if options.max_loras:
        from vllm.platforms import current_platform

        if current_platform.is_cpu() and options.guard_lora:
            await engine.collective_rpc("guard_lora")
        step_seconds = await prove_lora(engine, Path(options.model), options.max_loras)
    bank = prefixes = None
    if rows:
        await engine.collective_rpc("mask_soft_rows", args=(rows.first,))
        bank = Bank(rows.first, options.soft_rows) if options.soft_rows else None
        first, count = rows.first + options.soft_rows, options.prefix_rows
        if count:
            _check_cache(engine.vllm_config)
        prefixes = Bank(first, count) if count else None
    return VllmAdapters(
        engine,
        loras=options.loras_in_memory * bool(options.max_loras),
        bank=bank,
        prefixes=prefixes,
        engines=_beside(engine, options) if options.full_models else None,
        step_seconds=step_seconds,
    )


def _beside(engine: Any, options: EngineOptions) -> Engines:
    async def room() -> Room:
        return Room(*(await engine.collective_rpc("memory"))[0])

    return Engines(options, width=engine.model_config.dtype.itemsize, room=room)
