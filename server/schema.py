"""What journal.db holds: turns, feedback, experiments, stored responses, API keys, adapters."""

from pathlib import Path

from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from indexer.upgrading import upgrade

VERSION = 10  # of the newest revision
REVISIONS = Path(__file__).with_name("migrations")
metadata = MetaData()

exposures = Table(
    "exposures",
    metadata,
    Column("turn", Text, primary_key=True),
    Column("at", Float, nullable=False),
    Column("tenant", Text, nullable=False, index=True),
    Column("unit", Text, nullable=False),  # HMAC: a stolen journal names nobody
    Column("unit_kind", Text, nullable=False),
    Column("experiment", Text),
    Column("arm", Text),
    Column("model", Text, nullable=False),
    Column("client_request_id", Text),
    Column("metadata", Text, nullable=False),
    Column("phase", Integer),  # this and the next two: with an experiment
    Column("propensity", Float),
    Column("slice", Boolean),
    Index("ix_exposures_experiment", "experiment", "unit"),
    Index("ix_exposures_experiment_at", "experiment", "at"),
    Column("idempotency_key", Text),  # this and the next: as the caller sent them, to spot double exposures
    Column("retry_count", Integer),
    Column("trace", Text),  # trace id of the caller's traceparent
)
plans = Table(
    "plans",
    metadata,
    Column("turn", Text, ForeignKey("exposures.turn"), primary_key=True),
    Column("at", Float, nullable=False),
    Column("base", Text, nullable=False),
    Column("base_sha256", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("template", Text),  # name@version
    Column("template_sha256", Text),
    Column("demos", Text, nullable=False),
    Column("pool_sha256", Text),
    Column("chunks", Text, nullable=False),  # of the prompt, in its order
    Column("generations", Text, nullable=False),
    Column("dropped", Text, nullable=False),
    Column("grounding", Text, nullable=False),
    Column("limits", Text, nullable=False),  # every sampling value, the seed included
    Column("prompt_sha256", Text, nullable=False, index=True),
    Column("prompt_tokens", Integer, nullable=False),
    Column("prompt_ids", LargeBinary),  # uint32, little endian; the prompts one after another
    Column("messages", Text),
    Column("queries", Text),  # JSON: what was searched for
    Column("rewrite", Text),  # off | join | model | failed: how the queries came of the question
    Column("served", Text),  # experiment/arm whose recipe made the prompt
    Column("asked", Text),  # JSON: the caller's messages
    Column("variables", Text),  # JSON: the values of the template's slots
    Column("engine", Text),  # JSON: name, version, device, dtype, flags, and this program's release
    Column("options", Text),  # JSON: what else shaped the shown text
    Column("prompt_lengths", Text),  # JSON: where one prompt's ids end and the next one's begin
    Column("erased_at", Float),  # prompt and answer were erased on request
    Column("adapter", Text),  # name@version
    Column("adapter_sha256", Text),
)
replies = Table(
    "replies",
    metadata,
    Column("turn", Text, ForeignKey("exposures.turn"), primary_key=True),
    Column("at", Float, nullable=False),
    Column("outcome", Text, nullable=False),  # stop | length | cancelled | failed
    Column("completion_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("cited", Text, nullable=False),
    Column("citations_dropped", Integer, nullable=False),
    Column("first_token_seconds", Float),
    Column("total_seconds", Float, nullable=False),
    Column("texts", Text),
    Column("calls", Text),  # JSON, a list for each choice; null where nothing was called
    Column("token_ids", LargeBinary),
    Column("texts_sha256", Text, nullable=False),
    Column("token_lengths", Text),  # JSON: of each choice
    Column("finishes", Text),  # JSON: of each choice
)
feedback = Table(
    "feedback",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Float, nullable=False),
    Column("turn", Text, ForeignKey("exposures.turn"), nullable=False, index=True),
    Column("giver", Text, nullable=False),  # prefix of the key
    Column("choice", Integer, nullable=False),
    Column("metric", Text, nullable=False),
    Column("value", Text, nullable=False),  # JSON
    Column("comment", Text),
    Column("late", Boolean, nullable=False),  # after the attribution window: not analysed
)
definitions = Table(  # a row a change: the newest of an experiment is in force
    "definitions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("experiment", Text, nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("sha256", Text, nullable=False),  # of the file's meaning
    Column("text", Text, nullable=False),  # the file
    Column("phase", Integer, nullable=False),
    Column("arms", Text, nullable=False),  # JSON: name, weight, digests
)
decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("experiment", Text, nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("action", Text, nullable=False),  # verdict | stop | promote | rollback
    Column("verdict", Text),
    Column("before", Text),  # experiment/arm served by default
    Column("after", Text),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("forced", Boolean, nullable=False),
    Column("report_sha256", Text),
)
defaults = Table(  # the newest row is what is served to whoever is in no experiment
    "defaults",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("recipe", Text),  # experiment/arm; null: requests as they come
    Column("decision", Integer, ForeignKey("decisions.id"), nullable=False),
)
responses = Table(
    "responses",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False, index=True),
    Column("previous", Text),  # id of the response this one continues
    Column("items", Text, nullable=False),  # JSON: the input as /input_items gives it back
    Column("body", Text, nullable=False),  # JSON: the response object with all its results
)
keys = Table(
    "keys",
    metadata,
    Column("prefix", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),  # HMAC-SHA-256(pepper, key): full entropy needs no bcrypt
    Column("tenant", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("name", Text),
    Column("requests_per_minute", Integer),  # null: the settings' number; 0: without limit
    Column("tokens_per_minute", Integer),
    Column("concurrent", Integer),
    Column("used_at", Float),  # to the minute
)


adapters = Table(
    "adapters",
    metadata,
    Column("id", Integer, primary_key=True),  # the engine's number of the version: never used again
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("length", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("parent", Text),
    Column("metrics", Text, nullable=False),  # JSON
    Column("wanted", Boolean, nullable=False),  # in the engine of every replica
    Column("error", Text),  # why the last load failed
    UniqueConstraint("name", "version"),
    sqlite_autoincrement=True,
)
adapter_aliases = Table(
    "adapter_aliases",
    metadata,
    Column("alias", Text, primary_key=True),
    Column("adapter", Text, nullable=False),  # name@version
    Column("at", Float, nullable=False),
)
adapter_steps = Table(
    "adapter_steps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("action", Text, nullable=False),  # add | load | … (book.Action)
    Column("adapter", Text, nullable=False),
    Column("alias", Text),
    Column("before", Text),  # what the alias meant until then
    Column("by", Text, nullable=False),  # prefix of the key
    Column("reason", Text),
    sqlite_autoincrement=True,
)


def open_schema(engine: Engine) -> None:
    """Make the tables, or bring those of an older release to this one's, after a copy.

    Raises `DatabaseRefused` when the file is of a newer release.
    """
    upgrade(engine, REVISIONS, VERSION)
