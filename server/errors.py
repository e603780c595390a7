"""What this server raises on purpose, and the one table that turns every error into an HTTP answer.

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
anything of another tenant. The errors of lower rooms are in `server/wire/errors.py`, with the table.
"""


class ServerError(Exception):
    """The root. `param` is a path in the request such as `messages[2].content[0].type`."""

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds
