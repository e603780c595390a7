"""Demonstration pools behind the server's seam: picked off the event loop, by the template's strategy."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from prompts.demos import Picked, Pool
from prompts.errors import PoolError
from prompts.records import Demo, DemoPolicy, LabelSet, Template
from prompts.templates import Library
from server.errors import InvalidValue
from server.settings import SettingsRefused

NONE = Picked((), ())
NO_POOLS: Mapping[str, Pool] = MappingProxyType({})


class PoolDemos:
    """The default pool, None where the operator named no file of examples; and pools by `name@version`."""

    def __init__(
        self,
        pool: Pool | None,
        vector_of: Callable[[str], NDArray[np.float32]] | None = None,
        pools: Mapping[str, Pool] = NO_POOLS,
    ) -> None:
        """`vector_of` gives a question's vector, which the search before may have computed already."""
        self._pool = pool
        self._vector_of = vector_of
        self._pools = pools

    @property
    def sha256(self) -> str | None:
        return self.sha256_of(None)

    def sha256_of(self, pool: str | None) -> str | None:
        found = self._pools.get(pool) if pool else self._pool
        return found.digest if found else None

    def has(self, sha256: str | None) -> bool:
        """Whether a pool of that digest is here."""
        pools = [*self._pools.values(), *([self._pool] if self._pool else [])]
        return any(pool.digest == sha256 for pool in pools)

    def fixed(self, policy: DemoPolicy) -> tuple[Demo, ...]:
        """Raises InvalidValue when examples are wanted and there is no pool."""
        if policy.strategy == "none" or not (policy.count or policy.ids):
            return ()
        return self._named(policy).static(replace(policy, count=policy.count or len(policy.ids)))

    async def pick(self, question: str, count: int, template: Template) -> Picked:
        """Raises InvalidValue when examples are asked for and there is no pool."""
        if count == 0:
            return NONE
        pool = self._named(template.dynamic)
        own = template.dynamic
        policy = own if own.strategy != "none" else DemoPolicy(strategy="nearest", pool=own.pool)
        picked = await asyncio.to_thread(self._follow, pool, replace(policy, count=count), question)
        return picked if template.labels is None else _labelled(picked, template.labels)

    def _named(self, policy: DemoPolicy) -> Pool:
        if policy.pool:
            if policy.pool in self._pools:
                return self._pools[policy.pool]
            raise InvalidValue(
                f"there is no pool {policy.pool}; the operator's folder paths.pools holds "
                f"{', '.join(self._pools) or 'none'}",
                param="fewshot.demos",
            )
        if self._pool is None:
            raise InvalidValue(
                "this server has no worked examples; the operator names a JSONL file of them in paths.demos",
                param="fewshot.demos",
            )
        return self._pool

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


def with_static(library: Library, demos: PoolDemos) -> Library:
    """The library with the examples that its templates show to every question, out of the pools.

    Raises SettingsRefused for a template that picks them from a pool which is not there.
    """
    return Library(tuple(_settled(template, demos) for template in library))


def _settled(template: Template, demos: PoolDemos) -> Template:
    if not template.static.count:
        return template
    try:
        return replace(template, demos=demos.fixed(template.static))
    except (InvalidValue, PoolError) as problem:
        raise SettingsRefused(f"template {template.reference} shows examples of a pool: {problem}") from None
