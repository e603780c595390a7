"""What the server asks of the parts that have alternatives. One method where one will do."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.records import Hits
from prompts.demos import Picked
from prompts.records import Demo, DemoPolicy, Message, Template
from server.calling import Calling, Function, Heard
from server.loadables import Loadable
from server.profile import ModelProfile
from server.records import Limits, Piece, Search

T = TypeVar("T")


class Tokenizer(Protocol):
    """Text to the ids of the served model, through its own chat template. Thread-safe."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that steer the model and never stand for a caller's text."""
        ...

    def chat(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool | None = None,
        functions: Sequence[Function] = (),
        known: dict[str, tuple[int, ...]] | None = None,
    ) -> tuple[int, ...]:
        """Ids of the whole conversation, and of what may be called, with the generation prompt at its end.

        With `known`, pieces that stand in it are not read again, and what is read goes into it.
        """
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of raw text, with what the model puts before every text (BOS), if anything."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text that the ids stand for, special tokens included."""
        ...


class CallReader(Protocol):
    """Tells the text of one choice from the functions it calls."""

    def read(self, text: str, tokens: tuple[int, ...], *, ends: bool) -> Heard:
        """What is decided by now; the rest waits for more, and nothing does when the answer `ends`."""
        ...


# Shows a piece to its reader at once; False where it has to be yielded. Raises nothing. To be called only
# while the next piece is awaited, so that everything before it is out.
Show = Callable[[Piece], bool]


class Decoder(Protocol):
    """Continues a prompt. Stops cleanly when its iterator is closed."""

    @property
    def profile(self) -> ModelProfile: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def adapters(self) -> "AdapterHost | None":
        """Where adapters are loaded; None when the engine was started without room for any."""
        ...

    def decode(
        self,
        prompt: tuple[int, ...],
        limits: Limits,
        *,
        request_id: str,
        adapter: str | None = None,
        show: Show | None = None,
    ) -> AsyncGenerator[Piece]:
        """Pieces of `limits.n` choices, interleaved. `adapter` is the reference of one that is loaded.

        Goes on while nobody asks; then what has come is one piece. Pieces of an answer of one choice may be
        offered to `show`, and what it takes is not yielded; the last one it never takes.
        Raises EngineUnavailable when the engine is dead or not yet up.
        """
        ...

    @property
    def tool_parser(self) -> str | None:
        """The format of this model's calls by its name; None when nobody said."""
        ...

    def call_reader(self, calling: Calling, *, streamed: bool) -> CallReader:
        """A reader of calls in the model's own format, for one choice. Only with a `tool_parser`."""
        ...

    async def first_tokens(
        self,
        prompt: tuple[int, ...],
        candidates: Sequence[int],
        *,
        cache_salt: str = "",
        adapter: str | None = None,
    ) -> list[float]:
        """ln p(candidate | prompt) for each candidate id, from one decoding step (label scoring)."""
        ...

    async def close(self) -> None: ...


class AdapterHost(Protocol):
    """The engine's side of adapters. Callers see to it that nothing in use is unloaded."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds that it can hold."""
        ...

    async def load(self, adapter: Loadable) -> None:
        """Raises InvalidValue if the engine refuses it, AdapterInUse if it is full; nothing changed then."""
        ...

    async def unload(self, reference: str) -> None:
        """Harmless for one that is not loaded."""
        ...

    async def loaded(self) -> frozenset[str]:
        """The references of all that the engine holds, as the engine itself says."""
        ...

    def lost(self) -> frozenset[str]:
        """The references of those that stopped answering by themselves; unload them before loading again."""
        ...


class Lease(NamedTuple):
    """The right to run on a model, adapter included, until `release` is called."""

    profile: ModelProfile
    release: Callable[[], None]


class AdapterNames(Protocol):
    """Names of models as clients write them."""

    def hold(self, model: str, profile: ModelProfile) -> Lease:
        """What `model` means now. Raises ModelNotFound, which names what there is."""
        ...


class Retriever(Protocol):
    """Finds sources. Blocking work happens off the event loop."""

    async def search(self, question: str, search: Search, *, top: int) -> Hits:
        """Raises UnknownStore for a name that is none, RetrievalUnavailable when a store cannot answer."""
        ...

    async def search_then(self, question: str, search: Search, *, top: int, then: Callable[[Hits], T]) -> T:
        """What `then` makes of the hits, on the thread that found them. Raises what both raise."""
        ...

    async def alive(self) -> bool:
        """Whether the catalogue can be read."""
        ...


class Demos(Protocol):
    """The pool of worked examples."""

    @property
    def sha256(self) -> str | None:
        """Digest of the default pool; None when there is none."""
        ...

    def sha256_of(self, pool: str | None) -> str | None:
        """Digest of the pool `name@version`, or of the default one; None when there is none."""
        ...

    def has(self, sha256: str | None) -> bool:
        """Whether a pool of that digest is here."""
        ...

    def fixed(self, policy: DemoPolicy) -> tuple[Demo, ...]:
        """The examples that a policy shows to every question. Raises InvalidValue where there is no pool."""
        ...

    async def pick(self, question: str, count: int, template: Template) -> Picked:
        """At most `count` examples in the order in which they are to be read, by the template's strategy."""
        ...


class Embeddings(Protocol):
    """The embedding model as /v1/embeddings serves it."""

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        ...

    async def embed(self, texts: Sequence[str], *, as_query: bool) -> NDArray[np.float32]:
        """Unit rows, shape (n, dimension)."""
        ...
