"""The demonstration pool behind the server's seam: picked off the event loop, by the template's strategy."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from prompts.demos import Picked, Pool
from prompts.records import DemoPolicy, LabelSet, Template
from server.errors import InvalidValue

NONE = Picked((), ())


class PoolDemos:
    """One pool for every template; None where the operator named no file of examples."""

    def __init__(
        self, pool: Pool | None, vector_of: Callable[[str], NDArray[np.float32]] | None = None
    ) -> None:
        """`vector_of` gives a question's vector, which the search before may have computed already."""
        self._pool = pool
        self._vector_of = vector_of

    @property
    def sha256(self) -> str | None:
        return self._pool.digest if self._pool else None

    async def pick(self, question: str, count: int, template: Template) -> Picked:
        """Raises InvalidValue when examples are asked for and there is no pool."""
        if count == 0:
            return NONE
        if self._pool is None:
            raise InvalidValue(
                "this server has no worked examples; the operator names a JSONL file of them in paths.demos",
                param="fewshot.demos",
            )
        policy = template.dynamic if template.dynamic.strategy != "none" else DemoPolicy(strategy="nearest")
        picked = await asyncio.to_thread(self._follow, self._pool, replace(policy, count=count), question)
        return picked if template.labels is None else _labelled(picked, template.labels)

    def _follow(self, pool: Pool, policy: DemoPolicy, question: str) -> Picked:
        known = None
        if policy.strategy == "nearest" and self._vector_of is not None:
            known = self._vector_of(question)
        return pool.follow(policy, question, known)


def _labelled(picked: Picked, labels: LabelSet) -> Picked:
    """Those that carry one of the template's labels: an example without one cannot show it."""
    known = {label.id for label in labels.labels}
    kept = [pair for pair in zip(picked.demos, picked.scores, strict=True) if pair[0].label in known]
    return Picked(tuple(demo for demo, _ in kept), tuple(score for _, score in kept))
