"""The settings of what a server tells its operator: traces and logs."""

from typing import Literal

from pydantic import Field

from server.section import Section


class Telemetry(Section):
    traces: bool = Field(False, description="send OpenTelemetry spans; needs the extra `tracing`")
    endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; default: what OTEL_* say",
    )
    traces_share: float = Field(
        1.0, ge=0, le=1, description="of the requests whose caller did not decide; by trace id"
    )
    logs: Literal["text", "json"] = Field("text", description="json: one object a line")
    log_requests: bool = Field(False, description="a line a request: id, route, status, seconds; no bodies")
