"""Label scores of many prompts: by plain transformers on one device, or by the decoder that is served."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from server.label_scoring import LabelTokens, branches, score_labels

LEAST_SHARED = 48  # tokens below which a shared prefix is not worth a pass of its own
FEW = 0.05  # of the prompts may be unlike the others without costing them their prefix
Scores = NDArray[np.float64]
Prompts = Sequence[NDArray[np.int32]]


class Scorer(Protocol):
    def score(self, prompts: Prompts, labels: LabelTokens) -> Scores:
        """ln p of each label behind each prompt, shape (prompts, labels)."""
        ...

    def close(self) -> None: ...


class BatchedScorer:
    """Prompts of like length together; the start that most of a call's prompts share is read once."""

    def __init__(self, model: Path, device: str, dtype: str, batch_tokens: int) -> None:
        """`batch_tokens`: of one pass, padding included. `tf32` is float32 with TF32 products."""
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        if dtype == "tf32":
            torch.set_float32_matmul_precision("high")
        loading: Any = AutoModelForCausalLM  # its types do not survive strict checking
        kept = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        opened = loading.from_pretrained(model, dtype=kept).eval().to(device)
        self._body, self._head = opened.get_decoder(), opened.get_output_embeddings()
        self._device = device
        self._batch_tokens = batch_tokens

    def score(self, prompts: Prompts, labels: LabelTokens) -> Scores:
        if labels.way == "first_token":
            return self._next(prompts, [one[0] for one in labels.ids])
        known: dict[tuple[int, ...], Scores] = {}
        for before, candidates in branches(labels.ids).items():
            longer = [np.append(prompt, np.array(before, dtype=np.int32)) for prompt in prompts]
            rows = self._next(longer, candidates)
            known |= {(*before, token): rows[:, at] for at, token in enumerate(candidates)}
        sums = [sum(known[one[: at + 1]] for at in range(len(one))) for one in labels.ids]
        return np.stack([np.asarray(one) for one in sums], axis=1)

    def close(self) -> None:
        return None

    def _next(self, prompts: Prompts, candidates: Sequence[int]) -> Scores:
        """ln p of each candidate as the next token, shape (prompts, candidates)."""
        found = np.empty((len(prompts), len(candidates)))
        shared, rows = shared_start(prompts)
        alone = sorted(set(range(len(prompts))) - set(rows))
        with self._torch.inference_mode():
            if rows:
                start = self._body(self._ids([prompts[rows[0]][:shared]], 0), use_cache=True)
                ends = {at: prompts[at][shared:] for at in rows}
                for batch in self._batches(ends, shared):
                    state = copy.deepcopy(start.past_key_values)
                    state.batch_repeat_interleave(len(batch))
                    found[batch] = self._last([ends[at] for at in batch], candidates, state)
            whole = {at: prompts[at] for at in alone}
            for batch in self._batches(whole, 0):
                found[batch] = self._last([whole[at] for at in batch], candidates, None)
        return found

    def _batches(self, texts: dict[int, NDArray[np.int32]], before: int) -> Iterator[list[int]]:
        """Longest first. What is remembered of `before` tokens costs memory, though no time."""
        batch: list[int] = []
        for at in sorted(texts, key=lambda one: -len(texts[one])):
            longest = len(texts[batch[0]]) if batch else len(texts[at])
            if batch and (len(batch) + 1) * (longest + before // 4) > self._batch_tokens:
                yield batch
                batch = []
            batch.append(at)
        if batch:
            yield batch

    def _last(self, texts: Prompts, candidates: Sequence[int], state: Any) -> Scores:
        """At the last position of each text. Padding stands behind it, so that no mask is needed."""
        longest = max(map(len, texts))
        out = self._body(self._ids(texts, longest), past_key_values=state, use_cache=state is not None)
        ends = self._torch.tensor([len(text) - 1 for text in texts], device=self._device)
        states = out.last_hidden_state[self._torch.arange(len(texts), device=self._device), ends]
        logprobs = self._head(states).float().log_softmax(-1)
        picked = logprobs[:, self._torch.tensor(list(candidates), device=self._device)]
        return np.asarray(picked.double().cpu().numpy())

    def _ids(self, texts: Prompts, longest: int) -> Any:
        rows = np.zeros((len(texts), longest or len(texts[0])), dtype=np.int64)
        for at, text in enumerate(texts):
            rows[at, : len(text)] = text
        return self._torch.from_numpy(rows).to(self._device)


def shared_start(prompts: Prompts) -> tuple[int, list[int]]:
    """How many leading tokens most prompts share with the first, and which; (0, []) when too few to matter.

    At least one token of each is left behind the shared ones.
    """
    if len(prompts) < 3:
        return 0, []
    first = prompts[0]
    common = []
    for other in prompts:
        length = min(len(first), len(other)) - 1
        unlike = np.flatnonzero(first[:length] != other[:length])
        common.append(int(unlike[0]) if len(unlike) else length)
    shared = int(np.quantile(common, FEW, method="lower"))
    if shared < LEAST_SHARED:
        return 0, []
    return shared, [at for at, length in enumerate(common) if length >= shared]


class ServedScorer:
    """The served decoder, vLLM in this process."""

    def __init__(self, model: Path, context_tokens: int, at_once: int = 16) -> None:
        from server.vllm_decoder import EngineOptions, VllmDecoder

        self._loop = asyncio.new_event_loop()
        options = EngineOptions(model=str(model), context_tokens=context_tokens, batch=at_once)
        self._decoder = self._loop.run_until_complete(VllmDecoder.open(options))
        self._at_once = at_once

    def score(self, prompts: Prompts, labels: LabelTokens) -> Scores:
        return np.array(self._loop.run_until_complete(self._all(prompts, labels)))

    def close(self) -> None:
        self._loop.run_until_complete(self._decoder.close())
        self._loop.close()
        del self._decoder  # the engine's own clean-up fails once the interpreter is half gone

    async def _all(self, prompts: Prompts, labels: LabelTokens) -> list[list[float]]:
        places = asyncio.Semaphore(self._at_once)

        async def one(prompt: NDArray[np.int32]) -> list[float]:
            async with places:
                return await score_labels(tuple(prompt.tolist()), labels, self._decoder.first_tokens)

        return await asyncio.gather(*map(one, prompts))
