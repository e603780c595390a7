"""OpenTelemetry spans of requests, searches and generations. The one door to `opentelemetry`.

    POST /v1/chat/completions          server span, child of the caller's `traceparent`
    ├── retrieval VECTOR_STORES        from the place in the engine to the fused hits
    └── chat MODEL                     from the plan to the last token

Names are those of the GenAI conventions, which are in development; all of them stand in this module. No span
holds what was asked, found or answered, nor who asked.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from server.observing import End, Request
from server.records import Plan, Reply

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from starlette.types import Scope

PROVIDER = "fewshot"
INSTALL = "telemetry.traces needs OpenTelemetry: pip install 'fewshot[tracing]'"


class TracingUnavailable(Exception):
    """OpenTelemetry is not installed; the message says what to install."""


class Tracing:
    """Spans of one server. `request` is an observer; `replied` listens to replies."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import context, propagate, trace

        self._provider = provider
        self._tracer = provider.get_tracer("fewshot")
        self._context, self._trace, self._extract = context, trace, propagate.extract

    def request(self, scope: "Scope") -> End:
        """Begin the span of a request; what is begun within it is under it."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        span = self._tracer.start_span(
            scope["method"],
            context=self._extract(
                {key: headers[key] for key in ("traceparent", "tracestate") if key in headers}
            ),
            kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "url.scheme": scope["scheme"]},
        )
        token = self._context.attach(self._trace.set_span_in_context(span))

        def end(request: Request) -> None:
            self._context.detach(token)
            span.update_name(f"{request.method} {request.route}")
            span.set_attribute("http.route", request.route)
            span.set_attribute("http.response.status_code", request.status)
            span.set_attribute("fewshot.request.id", request.id)
            if request.status >= 500:
                span.set_status(self._trace.StatusCode.ERROR)
                span.set_attribute("error.type", str(request.status))
            span.end()

        return end

    def replied(self, reply: Reply) -> None:
        """The spans of a generation that has ended, with the times that its records hold."""
        plan = reply.plan
        clock = _wall()
        admitted = plan.started + plan.queue_seconds
        if plan.query is not None:
            stores = ",".join(plan.turn.search.stores)
            search = self._tracer.start_span(
                f"retrieval {stores}", start_time=clock(admitted), attributes=_of_search(plan, stores)
            )
            search.end(clock(admitted + plan.retrieval_seconds))
        if plan.refusal is not None:
            return  # nothing was generated
        operation = "chat" if plan.turn.messages else "text_completion"
        span = self._tracer.start_span(
            f"{operation} {plan.turn.model}",
            start_time=clock(admitted + plan.retrieval_seconds),
            attributes=_of_reply(reply, operation),
        )
        if reply.outcome == "failed":
            span.set_status(self._trace.StatusCode.ERROR)
            span.set_attribute("error.type", "failed")
        span.end(clock(plan.started + reply.total_seconds))

    def close(self) -> None:
        """Send what is not sent yet, for at most a few seconds."""
        self._provider.shutdown()


def open_tracing(endpoint: str | None, share: float) -> Tracing:
    """Spans in batches over OTLP/HTTP. Raises TracingUnavailable."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as problem:
        raise TracingUnavailable(INSTALL) from problem
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win, as operators of other services expect.
    resource = Resource({"service.name": PROVIDER}).merge(Resource.create())
    if resource.attributes["service.name"] == "unknown_service":
        resource = resource.merge(Resource({"service.name": PROVIDER}))
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(share)), resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return Tracing(provider)


def _of_search(plan: Plan, stores: str) -> Mapping[str, Any]:
    return {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.data_source.id": stores,
        "fewshot.sources.count": len(plan.sources),
        "fewshot.generation": [f"{store}={number}" for store, number in sorted(plan.generations.items())],
    }


def _of_reply(reply: Reply, operation: str) -> Mapping[str, Any]:
    plan, limits, usage = reply.plan, reply.plan.limits, reply.usage
    template, met = plan.template, plan.met
    said = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": plan.turn.model,
        "gen_ai.request.seed": limits.seed,
        "gen_ai.request.temperature": limits.temperature,
        "gen_ai.request.top_p": limits.top_p,
        "gen_ai.request.max_tokens": limits.max_tokens,
        "gen_ai.request.choice.count": limits.n,
        "gen_ai.request.stream": plan.turn.stream,
        "gen_ai.response.id": plan.turn.id,
        "gen_ai.response.model": plan.base,
        "gen_ai.response.finish_reasons": [choice.finish for choice in reply.choices],
        "gen_ai.response.time_to_first_chunk": reply.first_token_seconds,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.conversation.id": plan.turn.conversation,
        "fewshot.outcome": reply.outcome,
        "fewshot.queue_seconds": plan.queue_seconds,
        "fewshot.arm": met.arm if met.assigned else None,
        "fewshot.template": f"{template.name}@{template.version}" if template else None,
        "fewshot.adapter": plan.adapter.reference if plan.adapter else None,
        "fewshot.prompt.sha256": plan.prompt_sha256,
        "fewshot.demos.count": len(plan.demos),
        "fewshot.grounding": plan.grounding,
    }
    return {name: value for name, value in said.items() if value is not None}


def _wall() -> Callable[[float], int]:
    """time.perf_counter() → nanoseconds since the epoch, by the two clocks as they stand now."""
    wall, steady = time.time_ns(), time.perf_counter()
    return lambda at: wall + int((at - steady) * 1e9)
