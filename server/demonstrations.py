"""The demonstration pool behind the server's seam: picked off the event loop, by the template's strategy."""

import asyncio
from dataclasses import replace

from prompts.demos import Picked, Pool
from prompts.records import DemoPolicy, Template
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
        return await asyncio.to_thread(self._pool.follow, replace(policy, count=count), question)
