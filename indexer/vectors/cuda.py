"""FAISS on an NVIDIA card: flat in 16 bits and CAGRA through cuVS, inverted lists in 16 bits."""

import ctypes
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import faiss
import numpy as np

from indexer.devices import card_number
from indexer.errors import IndexOptionRefused
from indexer.seams import Vectors
from indexer.vectors.card import Card
from indexer.vectors.choice import DEGREE, Choice
from indexer.vectors.scan import Best, Rows, Whole, widen

TEMPORARY_BYTES = 512 << 20  # for intermediate results: room for an engine beside it
LOST = "about 8 times slower at one question a call, 3 to 4 times in batches"  # measured on one H200
SPARE_BYTES = 1 << 30  # that a copy of several segments leaves free
COPIED_ROWS = 1 << 17  # at a time
_BLOCK = 1 << 19  # rows widened at a time on their way to the card
_SAMPLE = 64  # rows per list that training looks at

_faiss: Any = faiss
log = logging.getLogger("fewshot")


def cards() -> int:
    """Cards that this build of FAISS can use: none in a build for the processor."""
    return int(_faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def open_card(device: str) -> Card | None:
    """The card to search on, as `indexer.devices` names it; None: the processor. Raises as `card_number`."""
    number = card_number(device, cards())
    return None if number is None else Card(partial(CudaEngine, card=number))


class CudaEngine:
    """One card and its resources; they belong to the thread that calls."""

    def __init__(self, temporary_bytes: int = TEMPORARY_BYTES, card: int = 0) -> None:
        self._card = card
        self._temporary_bytes = temporary_bytes
        _use(card)
        self._resources: Any = _faiss.StandardGpuResources()
        self._resources.setTempMemory(temporary_bytes)
        self._resources.getResources().syncDefaultStream(card)  # takes the card, and the memory just set, now
        self.uses_cuvs = "CUVS" in faiss.get_compile_options()
        if not self.uses_cuvs:
            log.warning("this build of FAISS lacks cuVS: searches on the card are %s", LOST)

    @property
    def memory_bytes(self) -> int:
        """Free on the card now; what searches may take for a moment is held already."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        if ctypes.CDLL("libcuda.so.1").cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)):
            raise IndexOptionRefused("the card does not say how much memory is free: search on the cpu")
        return free.value

    def place(self, rows: Rows, choice: Choice) -> Any:
        """An index of the rows on the card, tried once."""
        build = {"flat": self._flat, "ivf": self._lists, "cagra": self._graph}[choice.kind]
        index = build(rows, choice)
        queries = widen(np.ascontiguousarray(rows[:1]))
        self.search(index, queries, 10, 64)  # the first call sets up more than it computes
        started = time.perf_counter()
        self.search(index, queries, 10, 64)
        seconds = time.perf_counter() - started
        log.info(
            "%s of %d rows on card %d: %.2f ms a question", choice.kind, len(rows), self._card, 1e3 * seconds
        )
        return index

    def search(self, index: Any, queries: Vectors, top: int, effort: int) -> Best:
        """The best `top` of an index, as far as `effort` looks."""
        parameters = None
        if isinstance(index, _faiss.GpuIndexCagra):
            parameters = _faiss.SearchParametersCagra()
            parameters.itopk_size = -(-max(effort, top) // 32) * 32
        elif isinstance(index, _faiss.GpuIndexIVF):
            parameters = _faiss.SearchParametersIVF(nprobe=min(effort, index.nlist))
        return Best(*index.search(np.ascontiguousarray(queries), top, params=parameters))

    def join(self, indexes: Sequence[Any], room_bytes: int) -> Whole | None:
        """Flat indexes as one: a copy where there is room, or FAISS asks them in turn in one call of ours."""
        if not all(isinstance(index, _faiss.GpuIndexFlat) for index in indexes):
            return None
        threaded, counted_on = False, True
        shards = _faiss.IndexShards(indexes[0].d, threaded, counted_on)
        for index in indexes:
            shards.add_shard(index)
        copied_bytes = shards.ntotal * shards.d * 2
        # FAISS doubles what it holds when it grows, and lets the old half go afterwards.
        if copied_bytes > room_bytes or 3 * copied_bytes + SPARE_BYTES > self.memory_bytes:
            return Whole(shards, 0)
        try:
            return Whole(self._copy(indexes, shards), copied_bytes)
        except (RuntimeError, MemoryError) as error:  # FAISS raises the one, `on_card` the other
            log.warning("segments on the card are searched in turn, for no copy was made: %s", error)
            return Whole(shards, 0)

    def _copy(self, indexes: Sequence[Any], shards: Any) -> Any:
        """All rows of flat indexes in one, from the card to the card. Raises RuntimeError, MemoryError."""
        whole = self._empty_flat(shards.d)
        with on_card(COPIED_ROWS * shards.d * 4) as address:
            buffer = _faiss.cast_integer_to_float_ptr(address)
            for index in indexes:
                for start in range(0, index.ntotal, COPIED_ROWS):
                    some = min(COPIED_ROWS, index.ntotal - start)
                    index.reconstruct_n_c(start, some, buffer)
                    whole.add_c(some, buffer)
            self._resources.getResources().syncDefaultStream(self._card)  # before the buffer goes
        queries = indexes[0].reconstruct_n(0, 1)
        if not np.allclose(whole.search(queries, 10)[0], shards.search(queries, 10)[0], atol=1e-4):
            raise RuntimeError("the copy does not answer as the segments do")
        return whole

    def _flat(self, rows: Rows, choice: Choice) -> Any:
        return _filled(self._empty_flat(rows.shape[1]), rows)

    def _empty_flat(self, dimension: int) -> Any:
        settings = _faiss.GpuIndexFlatConfig()
        # Without cuVS 16 bits are slower than 32 in batches, but half as large; with it, faster.
        settings.device, settings.useFloat16, settings.use_cuvs = self._card, True, self.uses_cuvs
        return _faiss.GpuIndexFlatIP(self._resources, dimension, settings)

    def _lists(self, rows: Rows, choice: Choice) -> Any:
        settings = _faiss.GpuIndexIVFScalarQuantizerConfig()
        settings.device = self._card
        lists = choice.parameters["lists"]
        half, metric = _faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        index = _faiss.GpuIndexIVFScalarQuantizer(
            self._resources, rows.shape[1], lists, half, metric, False, settings
        )
        index.train(widen(np.ascontiguousarray(rows[:: max(1, len(rows) // (_SAMPLE * lists))])))
        index.reserveMemory(len(rows))
        return _filled(index, rows)

    def _graph(self, rows: Rows, choice: Choice) -> Any:
        if not self.uses_cuvs:
            raise IndexOptionRefused("this build of FAISS lacks cuVS, which CAGRA needs: ask for flat or ivf")
        settings = _faiss.GpuIndexCagraConfig()
        settings.device, settings.use_cuvs = self._card, True
        settings.graph_degree, settings.intermediate_graph_degree = DEGREE, 2 * DEGREE
        index = _faiss.GpuIndexCagra(self._resources, rows.shape[1], faiss.METRIC_INNER_PRODUCT, settings)
        index.train(widen(rows))
        return index


def _use(card: int) -> None:
    """Make it the calling thread's card, for what asks the driver and names none."""
    driver, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
    status = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), card)
    # Never released: it is the one that torch and FAISS use too, and lives as long as the process.
    status = status or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    if status := status or driver.cuCtxSetCurrent(context):
        raise IndexOptionRefused(f"card {card} cannot be used (CUDA error {status}): search on the cpu")


@contextmanager
def on_card(size: int) -> Iterator[int]:
    """The address of so many bytes of the card; raises MemoryError. The caller's thread has used the card."""
    driver, address = ctypes.CDLL("libcuda.so.1"), ctypes.c_uint64()
    if status := driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size)):
        raise MemoryError(f"the card gave no {size >> 20} MiB (CUDA error {status})")
    try:
        yield address.value
    finally:
        driver.cuMemFree_v2(address)


def _filled(index: Any, rows: Rows) -> Any:
    for start in range(0, len(rows), _BLOCK):
        index.add(widen(rows[start : start + _BLOCK]))
    return index
