"""Exception → HTTP answer: the one table (openai-surface §2), and the body made from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from indexer import errors as indexer
from prompts import errors as prompts
from server import errors as ours

LONGEST_MESSAGE = 2_000  # characters


class Row(NamedTuple):
    status: int
    type: str
    code: str
    retry_after_seconds: float | None = None
    should_retry: bool | None = None  # None: the client's own rule is right
    says: str | None = None  # instead of the error's own message, which is for the log


def _refused(status: int, code: str) -> Row:
    return Row(status, "invalid_request_error", code)


def _conflict(code: str) -> Row:
    return Row(409, "conflict_error", code, should_retry=False)  # clients retry a 409 unless told not to


def _unavailable(code: str, retry_after_seconds: float) -> Row:
    return Row(503, "service_unavailable_error", code, retry_after_seconds)


BUG = Row(
    500,
    "server_error",
    "internal_error",
    says="The server hit a bug while answering. It was counted and logged under this request id.",
)
# What a lower room says of its own state may name files, so the caller hears the consequence instead.
NO_SEARCH = _unavailable("retrieval_unavailable", 2)._replace(
    says="The search could not be carried out, so there is no answer. Try again, or tell the operator."
)

TABLE: Mapping[type[BaseException], Row] = {
    ours.InvalidValue: _refused(400, "invalid_value"),
    ours.MissingParameter: _refused(400, "missing_parameter"),
    ours.UnsupportedParameter: _refused(400, "unsupported_parameter"),
    ours.ContextTooLong: _refused(400, "context_length_exceeded"),
    ours.InvalidFilter: _refused(400, "invalid_filter"),
    ours.UnsafeDocument: _refused(400, "unsafe_document"),
    ours.StoreExpired: _refused(400, "vector_store_expired"),
    ours.UnsupportedAdapterKind: _refused(400, "unsupported_adapter_kind"),
    ours.InvalidKey: Row(401, "authentication_error", "invalid_api_key"),
    ours.InsufficientScope: Row(403, "permission_error", "insufficient_scope"),
    ours.NotFound: _refused(404, "not_found"),
    ours.ModelNotFound: _refused(404, "model_not_found"),
    ours.NoRelevantSources: _refused(404, "no_relevant_sources"),
    ours.UnknownUrl: _refused(404, "unknown_url"),
    ours.MethodNotAllowed: _refused(405, "method_not_allowed"),
    ours.RequestTimeout: _refused(408, "request_timeout"),
    ours.RequestTooLarge: _refused(413, "request_too_large"),
    ours.UnsupportedMediaType: _refused(415, "unsupported_media_type"),
    ours.IdempotencyInProgress: Row(409, "conflict_error", "idempotency_in_progress", 1),
    ours.NameInUse: _conflict("name_in_use"),
    ours.GenerationConflict: _conflict("generation_conflict"),
    ours.AdapterInUse: _conflict("adapter_in_use"),
    ours.ExperimentState: _conflict("experiment_state"),
    ours.IdempotencyMismatch: _refused(422, "idempotency_mismatch"),
    ours.RateLimited: Row(429, "rate_limit_error", "rate_limit_exceeded", 1),
    ours.QueueFull: Row(429, "rate_limit_error", "queue_full", 1),
    ours.Overloaded: _unavailable("server_is_overloaded", 1),
    ours.EngineUnavailable: _unavailable("engine_unavailable", 5),
    ours.RetrievalUnavailable: _unavailable("retrieval_unavailable", 2),
    ours.Draining: _unavailable("draining", 5),
    ours.Starting: _unavailable("starting", 5),
    ours.DeadlineExceeded: Row(504, "server_error", "deadline_exceeded", should_retry=False),
    ours.InsufficientStorage: Row(507, "server_error", "insufficient_storage", should_retry=False),
    # Wording that the caller named or filled is the caller's to mend; a broken file of ours is a bug.
    prompts.UnknownTemplate: _refused(404, "not_found"),
    prompts.SlotProblem: _refused(400, "invalid_value"),
    prompts.PromptTooLong: _refused(400, "context_length_exceeded"),
    prompts.ControlText: _refused(400, "invalid_value"),
    prompts.RenderFailed: BUG,
    prompts.TemplateInvalid: BUG,
    prompts.PoolInvalid: BUG,
    prompts.CalibratorInvalid: BUG,
    prompts.SearchRefused: BUG,  # searches are run by a command, never over HTTP
    prompts.ExperimentInvalid: _refused(400, "invalid_value"),
    prompts.ExperimentChanged: _conflict("experiment_state"),
    prompts.OutcomesInvalid: BUG,  # rows are read by commands, never over HTTP
    prompts.PlotsUnavailable: BUG,  # so are plots drawn
    indexer.IndexerError: NO_SEARCH,
    indexer.UnknownStore: _refused(404, "not_found"),
    indexer.UnknownUpload: _refused(404, "not_found"),
    indexer.UnknownBatch: _refused(404, "not_found"),
    indexer.StoreExpired: _refused(400, "vector_store_expired"),
    indexer.StoreNotYours: Row(403, "permission_error", "insufficient_scope"),
    indexer.BacklogFull: Row(429, "rate_limit_error", "queue_full", 10),
    indexer.UnknownFile: _refused(404, "not_found"),
    indexer.UnknownDocument: _refused(404, "not_found"),
    indexer.MigrationRefused: _refused(409, "generation_conflict"),
    indexer.FilterInvalid: _refused(400, "invalid_filter"),
    indexer.DatabaseRefused: NO_SEARCH,
    indexer.StoreBusy: NO_SEARCH,
    indexer.StoreDamaged: NO_SEARCH,
    indexer.EmbedderMissing: NO_SEARCH,
    indexer.EmbedderMismatch: NO_SEARCH,
    indexer.RerankerMissing: NO_SEARCH,
    indexer.ChunkingRefused: _refused(400, "invalid_value"),
    indexer.IndexOptionRefused: _refused(400, "invalid_value"),
    indexer.SourceMissing: BUG,  # paths are given to commands, never over HTTP
    indexer.EngineMissing: BUG,  # so is an engine
    indexer.UnsupportedFormat: _refused(415, "unsupported_media_type"),
    indexer.UnsafeDocument: _refused(400, "unsafe_document"),
    indexer.ReaderStopped: _refused(400, "unsafe_document"),
    indexer.DamagedDocument: _refused(400, "invalid_value"),
    indexer.ProtectedDocument: _refused(400, "invalid_value"),
    indexer.NoText: _refused(400, "invalid_value"),
}

PARAMS: Mapping[type[BaseException], str] = {  # where lower rooms, which know no fields, are at home
    prompts.UnknownTemplate: "fewshot.template",
    prompts.SlotProblem: "fewshot.variables",
    prompts.PromptTooLong: "messages",
    prompts.ControlText: "messages",
    indexer.UnknownStore: "vector_store_ids",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as the caller sees it."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    retry_after_seconds: float | None = None
    should_retry: bool | None = None

    @property
    def is_bug(self) -> bool:
        return self.status == 500

    def body(self) -> dict[str, Any]:
        """What every non-2xx answer and every error frame of a stream carries."""
        said = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": said}

    def headers(self) -> dict[str, str]:
        """retry-after is clamped to 1 … 120 s: at 0 or above 120 the client does not wait at all."""
        headers: dict[str, str] = {}
        if self.retry_after_seconds is not None:
            seconds = min(max(self.retry_after_seconds, 1.0), 120.0)
            headers["retry-after"] = str(-int(-seconds // 1))
            headers["retry-after-ms"] = str(int(seconds * 1000))
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


def problem_of(error: BaseException) -> Problem:
    """The answer to an error. A bug, and whatever the table does not know, says nothing of itself."""
    row, param = BUG, None
    for kind in type(error).__mro__:
        if kind in TABLE:
            row, param = TABLE[kind], PARAMS.get(kind)
            break
    after = row.retry_after_seconds
    if isinstance(error, indexer.FilterInvalid) and error.problems:
        param = error.problems[0].at
    if isinstance(error, ours.ServerError):
        param = error.param or param
        after = error.retry_after_seconds if error.retry_after_seconds is not None else after
    return Problem(
        status=row.status,
        type=row.type,
        code=row.code,
        message=_clean(row.says or str(error)),
        param=param,
        retry_after_seconds=after,
        should_retry=row.should_retry,
    )


def _clean(message: str) -> str:
    """Printable and bounded: names that callers invented are quoted in messages."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", message)[:LONGEST_MESSAGE]
