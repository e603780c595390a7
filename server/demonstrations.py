"""The demonstration pool behind the server's seam: picked off the event loop, by the template's strategy."""

import asyncio
from dataclasses import replace

from prompts.demos import Picked, Pool
from prompts.records import DemoPolicy, LabelSet, Template
from server.errors import InvalidValue

NONE = Picked((), ())


class PoolDemos:
    """One pool for every template; None where the operator named no file of examples."""

    def __init__(self, pool: Pool | None) -> None:
        self._pool = pool

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
        picked = await asyncio.to_thread(self._pool.follow, replace(policy, count=count), question)
        return picked if template.labels is None else _labelled(picked, template.labels)


def _labelled(picked: Picked, labels: LabelSet) -> Picked:
    """Those that carry one of the template's labels: an example without one cannot show it."""
    known = {label.id for label in labels.labels}
    kept = [pair for pair in zip(picked.demos, picked.scores, strict=True) if pair[0].label in known]
    return Picked(tuple(demo for demo, _ in kept), tuple(score for _, score in kept))
