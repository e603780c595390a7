"""Prometheus families of this server, labels bounded by configuration: never tenant, user, file or text."""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest

from server.recipes import Meeting
from server.records import Reply

DURATIONS = tuple(0.01 * 2**k for k in range(14))  # 0.01 … 81.92 s
SEARCHES = (0.0005, 0.001, 0.0025, 0.005, *DURATIONS)  # a leg may take less than a millisecond
LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)


class Children:
    """The children of a family by their labels, whose own look-up spells and locks them every time.

    As bounded as the labels are.
    """

    def __init__(self, family: Any) -> None:
        self._family = family
        self._children: dict[tuple[str, ...], Any] = {}

    def __call__(self, *labels: str) -> Any:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._family.labels(*labels)
        return child


class Metrics:
    """One set per app, in a registry of its own, so that two apps can live in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.listeners: list[Callable[[Reply], None]] = []  # others who hear of finished generations
        self.requests = Counter(
            "fewshot_http_requests", "Requests answered", ("route", "method", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "fewshot_http_request_duration_seconds",
            "From request to last byte",
            ("route",),
            buckets=DURATIONS,
            registry=registry,
        )
        self.queue_depth = Gauge("fewshot_queue_depth", "Requests waiting for the engine", registry=registry)
        self.running = Gauge(
            "fewshot_sequences_running", "Sequences that have a place in the engine", registry=registry
        )
        self.engine_ready = Gauge(
            "fewshot_engine_ready", "1 while tokens really come out of the engine", registry=registry
        )
        self.engine_restarts = Counter(
            "fewshot_engine_restarts",
            "Times the engine died or hung and was closed, to be started again",
            registry=registry,
        )
        self.engine_probe_seconds = Histogram(
            "fewshot_engine_probe_seconds",
            "A token that the engine was asked for to prove itself, when none was made for anybody else",
            buckets=DURATIONS,
            registry=registry,
        )
        self.in_flight = Gauge("fewshot_requests_in_flight", "Requests not yet answered", registry=registry)
        self.loop_lag_seconds = Histogram(
            "fewshot_event_loop_lag_seconds",
            "How late the event loop ran what was due",
            buckets=LAGS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "fewshot_queue_wait_seconds", "Wait before the engine", buckets=DURATIONS, registry=registry
        )
        self.rejected = Counter(
            "fewshot_admission_rejected", "Refused before any engine work", ("reason",), registry=registry
        )
        self.first_token_seconds = Histogram(
            "fewshot_time_to_first_token_seconds",
            "TTFT; arm is experiment/arm of requests that count for one, else none",
            ("model", "arm"),
            buckets=FIRST_TOKEN,
            registry=registry,
        )
        self.per_token_seconds = Histogram(
            "fewshot_time_per_output_token_seconds",
            "Mean of the tokens after the first",
            ("model",),
            buckets=PER_TOKEN,
            registry=registry,
        )
        self.tokens = Counter("fewshot_tokens", "Tokens", ("model", "kind"), registry=registry)
        self.retrieval_seconds = Histogram(
            "fewshot_retrieval_duration_seconds",
            "Legs of a search, some of which run at once; leg all: what a request waited for its search",
            ("leg",),
            buckets=SEARCHES,
            registry=registry,
        )
        self.retrieval_empty = Counter(
            "fewshot_retrieval_empty", "Searches that found nothing", ("policy",), registry=registry
        )
        self.retrieval_errors = Counter("fewshot_retrieval_errors", "Failed searches", registry=registry)
        self.prompt_dropped = Counter(
            "fewshot_prompt_dropped", "Items that did not fit the prompt", ("part",), registry=registry
        )
        self.citations = Counter(
            "fewshot_citations", "Citations by how they were checked", ("check",), registry=registry
        )
        self.adapter_load_seconds = Histogram(
            "fewshot_adapter_load_seconds",
            "Loading an adapter: its files read and checked, the engine's part, a first token",
            ("part",),
            buckets=DURATIONS,
            registry=registry,
        )
        self.adapter_loads = Counter(
            "fewshot_adapter_loads",
            "Loads of adapters: loaded, refused (what was asked cannot be) or failed",
            ("outcome",),
            registry=registry,
        )
        self.adapters_loaded = Gauge(
            "fewshot_adapters_loaded", "Adapters that answer requests", registry=registry
        )
        self.outcomes = Counter("fewshot_replies", "How replies ended", ("outcome",), registry=registry)
        self.exposures = Counter(
            "fewshot_exposures",
            "Requests that count for an experiment",
            ("experiment", "arm"),
            registry=registry,
        )
        self.feedback = Counter(
            "fewshot_feedback",
            "Opinions of answers; none, none: of answers that counted for no experiment",
            ("metric", "experiment", "arm"),
            registry=registry,
        )
        self.sample_ratio_alarm = Gauge(
            "fewshot_sample_ratio_alarm",
            "1 once an experiment's arms did not get the shares of units they should have",
            ("experiment",),
            registry=registry,
        )
        self.journal_dropped = Gauge(
            "fewshot_journal_dropped_total", "Journal rows that could not be written", registry=registry
        )

        self._tokens, self._outcomes = Children(self.tokens), Children(self.outcomes)
        self._citations = Children(self.citations)
        self._first_token_seconds = Children(self.first_token_seconds)
        self._per_token_seconds = Children(self.per_token_seconds)
        self._requests, self._request_seconds = Children(self.requests), Children(self.request_seconds)
        self._retrieval_seconds = Children(self.retrieval_seconds)
        self._prompt_dropped = Children(self.prompt_dropped)

        self.ingest_files = Counter(
            "fewshot_ingest_files", "Attached files that were read to their end", registry=registry
        )
        self.ingest_chunks = Counter(
            "fewshot_ingest_chunks", "Chunks of attached files that were embedded", registry=registry
        )
        self.publications = Counter(
            "fewshot_publications", "Generations that attached files made", registry=registry
        )
        self.publish_seconds = Histogram(
            "fewshot_publish_duration_seconds",
            "Writing and publishing a generation of attached files",
            buckets=DURATIONS,
            registry=registry,
        )
        self.ingest_queue_depth = Gauge(
            "fewshot_ingest_queue_depth", "Attached files that wait to be read", registry=registry
        )
        self.ingest_oldest_seconds = Gauge(
            "fewshot_ingest_oldest_seconds", "For how long the oldest of them waits", registry=registry
        )

    def watch(
        self,
        *,
        waiting: Callable[[], float],
        running: Callable[[], float],
        ready: Callable[[], float],
        adapters: Callable[[], float],
        journal_dropped: Callable[[], float],
        unread: Callable[[], tuple[int, float]],
    ) -> None:
        """Read these whenever somebody asks for the metrics, on whichever port."""
        self.queue_depth.set_function(waiting)
        self.running.set_function(running)
        self.engine_ready.set_function(ready)
        self.adapters_loaded.set_function(adapters)
        self.journal_dropped.set_function(journal_dropped)
        self.ingest_queue_depth.set_function(lambda: unread()[0])
        self.ingest_oldest_seconds.set_function(lambda: unread()[1])

    def collect(self) -> Iterator[Metric]:
        """Ours and, unchanged beside them, what vLLM registers in the process (`vllm:*`)."""
        yield from self.registry.collect()
        yield from REGISTRY.collect()

    # As the `Watch` of the backlog:

    def found(self, files: int) -> None:
        return None

    def embedded(self, chunks: int) -> None:
        self.ingest_chunks.inc(chunks)

    def finished(self, name: str) -> None:
        self.ingest_files.inc()

    def published(self, generation: int, documents: int, chunks: int, seconds: float) -> None:
        self.publications.inc()
        self.publish_seconds.observe(seconds)

    def searched(self, leg: str, seconds: float) -> None:
        """One leg of a search, from whichever thread it ran on."""
        self._retrieval_seconds(leg).observe(seconds)

    def judged(self, metric: str, experiment: str | None, arm: str | None) -> None:
        """Somebody said what an answer was worth."""
        self.feedback.labels(metric, experiment or "none", arm or "none").inc()

    def exposed(self, met: Meeting) -> None:
        if met.assigned and met.recipe is not None:
            self.exposures.labels(met.recipe.experiment, met.recipe.arm).inc()

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one HTTP request that has ended."""
        self._requests(route, method, str(status)).inc()
        self._request_seconds(route).observe(seconds)

    def replied(self, reply: Reply) -> None:
        """Count one finished generation."""
        for listener in self.listeners:
            listener(reply)
        plan, usage = reply.plan, reply.usage
        model = plan.base
        self._outcomes(reply.outcome).inc()
        self.queue_seconds.observe(plan.queue_seconds)
        self._tokens(model, "input").inc(usage.prompt_tokens)
        cached = self._tokens(model, "cached")  # there from the first reply on, also where it stays 0
        if usage.cached_tokens:
            cached.inc(usage.cached_tokens)
        self._tokens(model, "output").inc(usage.completion_tokens)
        for part, number in plan.dropped.items():
            self._prompt_dropped(part).inc(number)
        for choice in reply.choices:
            for citation in choice.citations:
                self.citations.labels(citation.check).inc()
        dropped = self._citations("dropped")
        if reply.citations_dropped:
            dropped.inc(reply.citations_dropped)
        if reply.first_token_seconds is None:
            return
        arm = plan.met.arm if plan.met.assigned else "none"
        self._first_token_seconds(model, arm).observe(reply.first_token_seconds)
        if usage.completion_tokens > 1:
            rest = reply.total_seconds - reply.first_token_seconds
            self._per_token_seconds(model).observe(rest / (usage.completion_tokens - 1))

    def exposition(self) -> bytes:
        """Everything that `collect` yields, as Prometheus reads it."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)
