"""Lines for people or for machines. Neither holds a body, a query string, a header or a key."""

import json
import logging
import sys
import time
from typing import Any, Literal

from starlette.types import Scope

from server.observing import End, Request

REQUESTS = "fewshot.requests"
TEXT = "%(levelname)s %(name)s: %(message)s"
_OWN = frozenset(vars(logging.makeLogRecord({})))  # what every record has; the rest came by `extra`


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, error, and whatever the caller added."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)


def set_up(form: Literal["text", "json"], *, requests: bool) -> None:
    """The process's logs, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(handlers=[handler])
    logging.getLogger(REQUESTS).setLevel(logging.INFO if requests else logging.WARNING)


def log_request(_: Scope) -> End:
    """An observer that writes a line a request, when it has ended."""
    log = logging.getLogger(REQUESTS)

    def end(request: Request) -> None:
        log.info(
            "%s %s %d",
            request.method,
            request.route,
            request.status,
            extra={
                "request_id": request.id,
                "turn": request.turn,
                "method": request.method,
                "route": request.route,
                "status": request.status,
                "seconds": round(request.seconds, 6),
            },
        )

    return end
