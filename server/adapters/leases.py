"""Who runs on which version: a request holds its own from the first look at its name to its last token."""

import asyncio
import time
from dataclasses import dataclass, field, replace

from server.adapters.records import Artefact, State
from server.errors import ModelNotFound
from server.loadables import AdapterUse
from server.profile import ModelProfile
from server.seams import Lease


@dataclass(slots=True, eq=False)
class Live:
    """A version in this process's engine. Touched on the event loop only."""

    artefact: Artefact
    state: State = "loading"
    holders: int = 0
    load_seconds: float | None = None
    used_at: float | None = None  # seconds since the epoch
    free: asyncio.Event = field(default_factory=asyncio.Event)  # nobody holds it

    def __post_init__(self) -> None:
        self.free.set()

    @property
    def use(self) -> AdapterUse:
        artefact = self.artefact
        return AdapterUse(
            reference=artefact.reference,
            kind=artefact.kind,
            sha256=artefact.digest,
            added_tokens=artefact.added_tokens,
        )

    def hold(self, profile: ModelProfile) -> Lease:
        self.holders += 1
        self.free.clear()
        self.used_at = time.time()
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self.holders -= 1
                if not self.holders:
                    self.free.set()

        use = self.use
        room = profile.context_tokens - use.added_tokens
        return Lease(replace(profile, context_tokens=room, adapter=use), release)


class BaseOnly:
    """The names of a server without adapters: its model."""

    def hold(self, model: str, profile: ModelProfile) -> Lease:
        if model != profile.name:
            raise ModelNotFound(
                f"the model {model[:200]!r} does not exist; this server has {profile.name!r}; /v1/models "
                "lists every name",
                param="model",
            )
        return Lease(profile, nothing)


def nothing() -> None:
    """Of what needs no giving back."""
