"""A question through a BERT encoder on a card: its operations are recorded once a length, then replayed.

Launched one by one they are some 150 calls, each of which lets go of the interpreter and wants it back.
Whoever waited for it may have it by then, and keep it for a switch interval (`sys.getswitchinterval`).
A replay is two calls: launch and wait. The copies to the card and back belong to the recording.
"""

import itertools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.lean_bert import LeanBert
from indexer.seams import Vectors

if TYPE_CHECKING:
    import torch

LONGEST = 64  # tokens of a question that is replayed, special ones included; longer ones are launched

log = logging.getLogger("fewshot")


class RecordedBert:
    """The encoder for one text at a time, on one card; for one thread at a time."""

    def __init__(self, encoder: LeanBert, longest: int = LONGEST) -> None:
        """Records every length, which takes milliseconds each; raises `RuntimeError` where a card cannot."""
        import torch

        self.longest = min(longest, encoder.window)
        self._stream: Any = torch.cuda.Stream(encoder.device)  # type: ignore[no-untyped-call]
        self._written = torch.zeros(self.longest, dtype=torch.int64, pin_memory=True)
        self._read = torch.zeros(encoder.dimension, dtype=torch.float32, pin_memory=True)
        self._ids, self._row = self._written.numpy(), self._read.numpy()
        # One pool for what lies between: no two replays are ever under way, and each ends in `_read`.
        self._pool = torch.cuda.graph_pool_handle()
        self._stream.wait_stream(torch.cuda.current_stream(encoder.device))  # the weights may be on their way
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            self._graphs = [self._record(encoder, length) for length in range(1, self.longest + 1)]

    def vector(self, tokens: Sequence[int]) -> Vectors:
        """The unit vector of at most `longest` tokens, special ones included; shape (dimension,)."""
        import torch

        self._ids[: len(tokens)] = tokens
        with torch.cuda.stream(self._stream):
            self._graphs[len(tokens) - 1].replay()
        self._stream.synchronize()
        return self._row.copy()

    def _record(self, encoder: LeanBert, length: int) -> "torch.cuda.CUDAGraph":
        import torch

        self._compute(encoder, length)  # what a first call sets up cannot be recorded
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Not `torch.cuda.graph`: that gives free memory back, which an engine that measures it would notice.
        # FAISS and others may allocate on their own threads meanwhile.
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        try:
            self._compute(encoder, length)
        finally:
            graph.capture_end()
        return graph

    def _compute(self, encoder: LeanBert, length: int) -> None:
        ids = self._written[:length].to(encoder.device, non_blocking=True)
        self._read.copy_(encoder.rows(ids, [length])[0].float(), non_blocking=True)


def recorded(encoder: LeanBert, longest: int = LONGEST) -> RecordedBert | None:
    """The encoder recorded, if it is on a card and each length gives the vector that it gave unrecorded."""
    if encoder.device.type != "cuda":
        return None
    try:
        found = RecordedBert(encoder, longest)
        for length in range(1, found.longest + 1):
            tokens = list(itertools.islice(itertools.cycle((1, 2, 3, 5, 8, 13, 21)), length))
            apart = float(np.abs(found.vector(tokens) - encoder.vector(tokens)).max())
            if not apart <= encoder.tolerance:  # nor NaN
                log.warning("questions are not replayed: at %d tokens they differ by %.1e", length, apart)
                return None
    except RuntimeError as error:  # a card or a driver that cannot record
        log.warning("questions are not replayed on %s: %s", encoder.device, error)
        return None
    return found
