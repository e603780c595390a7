"""Every knob, read once from fewshot.toml and FEWSHOT_*, frozen. Nothing below wiring sees this object.

The file is `fewshot.toml` in the working folder, or the one that FEWSHOT_CONFIG names. A key `a.b` of the
file is the variable `FEWSHOT_A_B`; the variable wins. `fewshot settings` prints what is in force.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from indexer.devices import PATTERN
from server.adapter_settings import Adapters, LoraRank
from server.alias_settings import Alias, AliasName
from server.network_settings import Connections, Server
from server.section import Section
from server.telemetry_settings import Telemetry

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Read by every command, also those that know no server: the short names.
SHORT = {
    ("paths", "data"): "FEWSHOT_DATA_DIR",
    ("paths", "cache"): "FEWSHOT_CACHE_DIR",
    ("retrieval", "embedder"): "FEWSHOT_EMBEDDER",
    ("retrieval", "reranker"): "FEWSHOT_RERANKER",
}


class SettingsRefused(Exception):
    """The configuration cannot be served; the message names the key and the way out. Exit code 78."""


class Paths(Section):
    data: Path = Field(
        default_factory=lambda: _xdg("XDG_DATA_HOME", ".local/share"),
        description="stores, catalogue and journal",
    )
    cache: Path = Field(
        default_factory=lambda: _xdg("XDG_CACHE_HOME", ".cache"), description="converted models"
    )
    templates: Path | None = Field(None, description="a folder of your own prompt templates")
    demos: Path | None = Field(
        None, description="JSONL of worked examples: the demonstration pool of every template"
    )
    calibrators: Path | None = Field(
        None, description="a folder of calibrators for /v1/classify (`fewshot evaluate labels --write`)"
    )
    pools: Path | None = Field(
        None, description="a folder of pools that arms name, NAME/VERSION/demos.jsonl each"
    )
    experiments: Path | None = Field(
        None, description="a folder of experiment files; read again when one changes"
    )


class Auth(Section):
    enabled: bool = Field(False, description="require an API key (`fewshot keys create`)")


class Engine(Section):
    kind: Literal["vllm", "echo"] = Field(
        "vllm", description="echo answers without a model: smoke tests, overhead benchmarks"
    )
    model: str = Field("smollm2-135m-instruct", description="name in the model cache, a folder, or a hub id")
    context: int = Field(2048, ge=128, description="longest prompt + answer, tokens")
    batch: int = Field(16, ge=1, description="sequences decoded together")
    dtype: str = Field("auto", description="auto: float32 on a CPU, the model's own on a GPU")
    kv_cache_bytes: int | None = Field(
        None, ge=2**20, description="KV cache; default 1 GiB on CPU, computed on GPU"
    )
    block: int | None = Field(None, description="tokens a KV block; default 32 on CPU, 16 on GPU")
    eager: bool | None = Field(None, description="skip compilation; default true on CPU, false on GPU")
    max_loras: int = Field(
        0, ge=0, description="LoRA adapters decoded together; 0: none are loaded, and nothing is slower"
    )
    max_lora_rank: LoraRank = Field(16, description="largest rank of a LoRA; memory is set aside for it")
    live_loras: int | None = Field(
        None, ge=1, description="LoRA adapters held in memory, ready at once; default 4 times max_loras"
    )
    soft_rows: int = Field(
        0, ge=0, description="rows of the embedding kept for soft prompts, a token each, shared by all loaded"
    )
    prefix_rows: int = Field(
        0, ge=0, description="ids kept for prefixes of keys and values, a token each, shared by all loaded"
    )
    gpu_memory_share: float = Field(0.8, gt=0, le=0.95, description="of the whole card")
    hang_seconds: float = Field(
        300, ge=10, description="an engine without a token for this long is closed and started again"
    )
    tool_parser: str | None = Field(None, description="how the model writes calls: hermes, llama3_json, …")
    echo_reply: str | None = Field(None, description="echo: answer this instead of the question")
    echo_tokens: int | None = Field(None, ge=1, description="echo: repeat the reply up to this length")
    echo_first_seconds: float = Field(0.0, ge=0, description="echo: delay of the first token")
    echo_interval_seconds: float = Field(0.0, ge=0, description="echo: delay between tokens")


class Retrieval(Section):
    embedder: str = Field(
        "all-minilm-l6-v2",
        description="of /v1/embeddings and demos: name in the model cache, a folder, a hub id, `hash`",
    )
    reranker: str | None = Field(
        None, description="folder of a cross-encoder that reads the best 50 again; none: no reranking"
    )
    device: str = Field(
        "auto",
        pattern=f"^({PATTERN})$",
        description="where questions are embedded and large segments searched: `auto` (a card, if any), "
        "`cpu`, `cuda`, `cuda:1`",
    )
    top: int = Field(4, ge=1, le=50, description="chunks put before the model when nobody says otherwise")
    per_file: int | None = Field(
        None,
        ge=1,
        le=50,
        description="hits of one document, where nobody says otherwise; default: any number",
    )
    timeout_seconds: float = Field(10, gt=0, description="a search slower than this is a 503")
    threads: int = Field(4, ge=1, description="searches at once, at most")
    rewrite: Literal["off", "join", "model"] = Field("off", description="of follow-ups, for the search")


class Demos(Section):
    embedder: str | None = Field(
        None, description="of the worked examples alone, named likewise; default retrieval.embedder"
    )
    poolings: int = Field(1, ge=1, description="poolings the embedder joins in a vector, to be weighed alike")
    label_weight: float = Field(
        0.8, ge=0, le=1, description="how far nearest examples go by what the pool's labels teach; 0: by text"
    )


class Limits(Section):
    output_tokens: int = Field(1024, ge=1, description="max_tokens when nobody says otherwise")
    echo_logprobs: bool = Field(True, description="allow echo with logprobs on /v1/completions")
    requests_per_minute: int | None = Field(
        None, ge=0, description="of a key that has no limit of its own; none or 0: unlimited"
    )
    tokens_per_minute: int | None = Field(
        None, ge=0, description="prompt and answer, of a key that has no limit of its own"
    )
    concurrent: int | None = Field(
        None, ge=0, description="requests at once, of a key that has no limit of its own"
    )


class Journal(Section):
    keep: Literal["text", "digests"] = Field(
        "text", description="digests: keep ids and fingerprints, no request or reply text"
    )


class Experiments(Section):
    evaluate_seconds: float = Field(
        10, gt=0, description="how often closed units are looked at, for a verdict and for harm"
    )


class Responses(Section):
    retention_days: float = Field(
        30, ge=0, description="how long /v1/responses keeps what it stores; 0: nothing is stored"
    )


class Settings(Section):
    paths: Paths = Field(default_factory=Paths)
    server: Server = Field(default_factory=Server)
    connections: Connections = Field(default_factory=Connections)
    auth: Auth = Field(default_factory=Auth)
    engine: Engine = Field(default_factory=Engine)
    adapters: Adapters = Field(default_factory=Adapters)
    retrieval: Retrieval = Field(default_factory=Retrieval)
    demos: Demos = Field(default_factory=Demos)
    limits: Limits = Field(default_factory=Limits)
    journal: Journal = Field(default_factory=Journal)
    experiments: Experiments = Field(default_factory=Experiments)
    responses: Responses = Field(default_factory=Responses)
    telemetry: Telemetry = Field(default_factory=Telemetry)
    aliases: dict[AliasName, Alias] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _bound_beyond_loopback_means_keys(self) -> "Settings":
        if self.server.host not in LOOPBACK and not self.auth.enabled:
            raise ValueError(
                f"server.host = {self.server.host!r} is reachable from other machines, but auth.enabled is "
                "false. Set auth.enabled = true and make a key with `fewshot keys create`, or use 127.0.0.1"
            )
        return self

    @property
    def loopback(self) -> bool:
        return self.server.host in LOOPBACK


def load_settings(
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings in force: defaults < file < FEWSHOT_* < overrides (`{"server": {"port": 9000}}`).

    Raises SettingsRefused naming every bad key at once.
    """
    named = config or (Path(environ["FEWSHOT_CONFIG"]) if environ.get("FEWSHOT_CONFIG") else None)
    path = named or Path("fewshot.toml")
    values: dict[str, Any] = {}
    if path.is_file():
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
            raise SettingsRefused(f"{path}: {problem}") from problem
    elif named:
        raise SettingsRefused(f"{named}: no such file; FEWSHOT_CONFIG or --config must name a fewshot.toml")
    for layer in (_from_environment(environ), overrides or {}):
        for section, entries in layer.items():
            values[section] = {**values.get(section, {}), **entries}
    return _checked(values)


def overridden(settings: Settings, overrides: Mapping[str, Mapping[str, Any]]) -> Settings:
    """The settings with some keys replaced, such as by options of a command. None means: as it was.

    Raises SettingsRefused.
    """
    values = settings.model_dump()
    for section, entries in overrides.items():
        values[section] |= {name: value for name, value in entries.items() if value is not None}
    return _checked(values)


def _checked(values: Mapping[str, Any]) -> Settings:
    try:
        return Settings.model_validate(values)
    except ValidationError as problem:
        lines = [f"  {_key(error['loc'])}: {error['msg']}" for error in problem.errors(include_input=False)]
        raise SettingsRefused("settings refused:\n" + "\n".join(lines)) from None


def knobs() -> list[tuple[str, str, str, str]]:
    """(key, variable, default, meaning) of every setting; the docs and env.example are made from it."""
    rows = []
    for section, kind in _sections().items():
        for name, knob in kind.model_fields.items():
            default = "" if knob.default is None or knob.default_factory else str(knob.default)
            key = f"{section}.{name}"
            rows.append((key, variable(section, name), default, knob.description or ""))
    return rows


def _sections() -> dict[str, type[Section]]:
    """The sections whose keys are fixed, and so have variables; aliases have names of the operator's own."""
    kinds = {name: info.annotation for name, info in Settings.model_fields.items()}
    return {
        name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)
    }


def variable(section: str, name: str) -> str:
    """The environment variable of a key."""
    return SHORT.get((section, name)) or f"FEWSHOT_{section.upper()}_{name.upper()}"


def _from_environment(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for section, kind in _sections().items():
        for name in kind.model_fields:
            value = environ.get(variable(section, name))
            if value:
                found.setdefault(section, {})[name] = value
    return found


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "settings"


def _xdg(name: str, fallback: str) -> Path:
    root = os.environ.get(name)
    return (Path(root) if root else Path.home() / fallback) / "fewshot"
