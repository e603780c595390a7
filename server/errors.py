"""What this server raises on purpose. No HTTP here, so the core may import it.

ServerError                        message, param, retry_after_seconds
├── Refused                        the caller must change something
│   ├── InvalidValue               400
│   │   ├── MissingParameter
│   │   ├── UnsupportedParameter
│   │   ├── ContextTooLong
│   │   ├── InvalidFilter
│   │   ├── UnsafeDocument
│   │   ├── StoreExpired
│   │   └── UnsupportedAdapterKind
│   ├── InvalidKey                 401
│   ├── InsufficientScope          403
│   ├── NotFound                   404
│   │   ├── ModelNotFound
│   │   ├── NoRelevantSources
│   │   └── UnknownUrl
│   ├── MethodNotAllowed           405
│   ├── RequestTimeout             408
│   ├── RequestTooLarge            413
│   ├── UnsupportedMediaType       415
│   ├── Conflict                   409
│   │   ├── IdempotencyInProgress
│   │   ├── NameInUse
│   │   ├── GenerationConflict
│   │   ├── AdapterInUse
│   │   └── ExperimentState
│   └── IdempotencyMismatch        422
├── Busy                           429: before any engine work
│   ├── RateLimited
│   └── QueueFull
└── Unavailable                    503: not now
    ├── Overloaded
    ├── EngineUnavailable
    ├── RetrievalUnavailable
    ├── Draining
    ├── Starting
    ├── DeadlineExceeded           504
    └── InsufficientStorage        507

Messages say what to do next. They reach the caller as they are, so none may hold a path, SQL, engine text or
anything of another tenant. `server/wire/problems.py` is the table that gives each its HTTP answer.
"""

FULL = "the server's disk is full; searches go on. Delete files, or tell the operator"


class ServerError(Exception):
    """The root. `param` is a path in the request such as `messages[2].content[0].type`."""

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds


class Refused(ServerError):
    """The caller must change something; asking again unchanged is pointless."""


class InvalidValue(Refused):
    """A field is there, but not with a value this server can honour."""


class MissingParameter(InvalidValue):
    """A field that must be there is not (null counts as absent)."""


class UnsupportedParameter(InvalidValue):
    """A field or value that would change the answer and is not offered: never ignored."""


class ContextTooLong(InvalidValue):
    """Prompt and answer do not fit the model's context; nothing is truncated silently."""


class InvalidFilter(InvalidValue):
    """An attribute filter is malformed or compares unlike types."""


class UnsafeDocument(InvalidValue):
    """A document tripped a limit of the reader (pages, size, nesting, time)."""


class StoreExpired(InvalidValue):
    """A vector store is past its expiry."""


class UnsupportedAdapterKind(InvalidValue):
    """An adapter of a kind the engine cannot serve."""


class InvalidKey(Refused):
    """Missing, unknown, revoked or expired key: one message for all, so that nothing can be probed."""


class InsufficientScope(Refused):
    """A valid key without the scope of this route."""


class NotFound(Refused):
    """No such thing under this tenant; another tenant's thing reads the same."""


class ModelNotFound(NotFound):
    """No such model, or one whose adapter is not loaded."""


class NoRelevantSources(NotFound):
    """Nothing passed filter and threshold, and the caller chose `when_empty: error`."""


class UnknownUrl(NotFound):
    """No such route."""


class MethodNotAllowed(Refused):
    """The route exists, not with this method."""


class RequestTimeout(Refused):
    """The body came too slowly."""


class RequestTooLarge(Refused):
    """The body is over a cap."""


class UnsupportedMediaType(Refused):
    """The content, not its name, is of no supported type."""


class Conflict(Refused):
    """Another state of the thing stands in the way."""


class IdempotencyInProgress(Conflict):
    """The same Idempotency-Key is still at work: the one conflict worth a retry."""


class NameInUse(Conflict):
    """The name is taken, and names are immutable."""


class GenerationConflict(Conflict):
    """Somebody published meanwhile."""


class AdapterInUse(Conflict):
    """The adapter is loaded or bound to an alias."""


class ExperimentState(Conflict):
    """The experiment is not in a state that allows this."""


class IdempotencyMismatch(Refused):
    """The same Idempotency-Key came with another body."""


class Busy(ServerError):
    """Refused for load, before any engine work; the same request is welcome later."""


class RateLimited(Busy):
    """This key is over its rate."""


class QueueFull(Busy):
    """The server's queue is full."""


class Unavailable(ServerError):
    """Something this answer needs cannot be had now."""


class Overloaded(Unavailable):
    """Admitted, but the server cannot keep up."""


class EngineUnavailable(Unavailable):
    """The engine is dead, hanging or not yet up."""


class RetrievalUnavailable(Unavailable):
    """A search failed or was too slow; never reported as an empty result."""


class Draining(Unavailable):
    """The server is shutting down and takes no new requests."""


class Starting(Unavailable):
    """The server has not yet answered its own first question."""


class DeadlineExceeded(Unavailable):
    """The request's deadline passed; its engine slot is free again."""


class InsufficientStorage(Unavailable):
    """The disk is full; reading and answering go on."""
