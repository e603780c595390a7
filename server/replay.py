"""A turn as it was written down, and how a second decoding of it compares with the first."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise, zip_longest
from typing import Any, Literal, NamedTuple

import numpy as np

from server.profile import ModelProfile
from server.records import Limits
from server.sources import SourceUse

LINKS_BEGIN = "\n\n- \\["  # the list that `citations: "links"` ends an answer with; see server/links.py
Ids = tuple[int, ...]


class Said(NamedTuple):
    """One choice: its tokens, and the text that was shown of them."""

    tokens: Ids
    text: str
    finish: str | None


class Difference(NamedTuple):
    """Where two decodings part. A side is None where that one had ended."""

    choice: int
    token_index: int | None  # None: the same tokens, shown otherwise
    text_index: int  # code points of the shown text that are the same
    original: int | None = None  # the token there
    replayed: int | None = None


class Reason(NamedTuple):
    """Something that is not as it was, or not known to be."""

    code: str
    says: str
    can_change: bool  # whether it can change a token or a character of the answer
    recorded: Any = None
    now: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The journal's rows of one turn. `prompts` and `choices` are None where no text was kept."""

    id: str
    at: float  # seconds since the epoch
    tenant: str
    model: str  # as asked for
    unit_kind: str
    experiment: str | None
    arm: str | None
    asked: tuple[Mapping[str, Any], ...] | None  # the caller's own messages
    metadata: Mapping[str, str]
    noted: Mapping[str, str | int | None]
    base: str
    base_sha256: str
    adapter: str | None  # name@version
    fingerprint: str
    engine: Mapping[str, Any]
    template: str | None  # name@version
    template_sha256: str | None
    demos: tuple[str, ...]
    pool_sha256: str | None
    chunks: tuple[str, ...]  # number n of the prompt is chunks[n - 1]
    generations: Mapping[str, int]
    dropped: Mapping[str, int]
    grounding: str
    limits: Limits
    options: Mapping[str, Any]
    prompt_sha256: str
    prompt_tokens: int
    prompts: tuple[Ids, ...] | None
    messages: tuple[Mapping[str, Any], ...] | None  # as the model saw them
    erased_at: float | None
    outcome: Literal["stop", "length", "cancelled", "failed"] | None  # None: no reply was written down
    choices: tuple[Said, ...] | None
    calls: tuple[Any, ...]  # of functions, a list for each choice
    cited: tuple[str, ...]
    citations_dropped: int
    cached_tokens: int
    first_token_seconds: float | None
    total_seconds: float | None
    others: int = 0  # turns that were decoded at the same time

    @property
    def refused(self) -> bool:
        """No model was asked: nothing was found, and a text of ours was the answer."""
        return self.grounding == "refused"

    @property
    def cites(self) -> bool:
        """Whether markers were read in the answer, and wrong ones dropped."""
        asked = self.grounding != "not_requested" and self.options.get("citations") != "none"
        return asked and self.limits.schema is None

    @property
    def sources(self) -> tuple[SourceUse, ...]:
        """The numbers that the prompt had, for reading markers; what the sources say is not here."""
        return tuple(
            SourceUse(
                n=n,
                file_id="",
                filename="",
                store_id="",
                chunk_id=chunk,
                title="",
                text="",
                score=0.0,
                page_start=None,
                page_end=None,
                char_start=0,
                char_end=0,
            )
            for n, chunk in enumerate(self.chunks, 1)
        )


def read_record(row: Mapping[str, Any], others: int = 0) -> Record | None:
    """The turn of `Journal.find`'s rows; None when it was refused before there was a plan."""
    if "plans.turn" not in row:
        return None
    said = json.loads(row["plans.limits"])
    said |= {
        "logit_bias": {int(token): bias for token, bias in said["logit_bias"].items()},
        "stop": tuple(said["stop"]),
        "cache_salt": "",
    }
    template = row["plans.template"]
    return Record(
        id=row["exposures.turn"],
        at=row["exposures.at"],
        tenant=row["exposures.tenant"],
        model=row["exposures.model"],
        unit_kind=row["exposures.unit_kind"],
        experiment=row["exposures.experiment"],
        arm=row["exposures.arm"],
        asked=_messages(row["plans.asked"]),
        metadata=json.loads(row["exposures.metadata"]),
        noted={
            name: row[f"exposures.{name}"]
            for name in ("client_request_id", "idempotency_key", "retry_count", "trace")
        },
        base=row["plans.base"],
        base_sha256=row["plans.base_sha256"],
        adapter=row["plans.adapter"],
        fingerprint=row["plans.fingerprint"],
        engine=_loaded(row, "plans.engine", {}),
        template=template,
        template_sha256=row["plans.template_sha256"],
        demos=tuple(json.loads(row["plans.demos"])),
        pool_sha256=row["plans.pool_sha256"],
        chunks=tuple(json.loads(row["plans.chunks"])),
        generations=json.loads(row["plans.generations"]),
        dropped=json.loads(row["plans.dropped"]),
        grounding=row["plans.grounding"],
        limits=Limits(**said),
        options=_loaded(row, "plans.options", {}),
        prompt_sha256=row["plans.prompt_sha256"],
        prompt_tokens=row["plans.prompt_tokens"],
        prompts=_rows(row["plans.prompt_ids"], _loaded(row, "plans.prompt_lengths", None)),
        messages=_messages(row["plans.messages"]),
        erased_at=row["plans.erased_at"],
        outcome=row.get("replies.outcome"),
        choices=_choices(row),
        calls=tuple(_loaded(row, "replies.calls", [])),
        cited=tuple(_loaded(row, "replies.cited", [])),
        citations_dropped=row.get("replies.citations_dropped") or 0,
        cached_tokens=row.get("replies.cached_tokens") or 0,
        first_token_seconds=row.get("replies.first_token_seconds"),
        total_seconds=row.get("replies.total_seconds"),
        others=others,
    )


def describe_engine(profile: ModelProfile) -> dict[str, Any]:
    """What is written down of the engine with every plan."""
    return {
        "name": profile.engine,
        "version": profile.engine_version,
        "device": profile.device,
        "dtype": profile.dtype,
        "flags": dict(profile.flags),
        "release": release(),
    }


@cache
def release() -> str:
    from importlib.metadata import version

    return version("fewshot")


def first_difference(record: Record, replayed: Sequence[Said]) -> Difference | None:
    """Where the replayed choices leave the recorded ones; None when both say the same.

    An answer that was cut off is compared as far as it came.
    """
    cut = record.outcome in ("cancelled", "failed")
    for index, (then, now) in enumerate(zip(record.choices or (), replayed, strict=True)):
        text_index = _common(then.text, now.text)
        tokens = now.tokens[: len(then.tokens)] if cut else now.tokens
        if then.tokens != tokens:
            at = _common(then.tokens, tokens)
            original = then.tokens[at] if at < len(then.tokens) else None
            return Difference(index, at, text_index, original, tokens[at] if at < len(tokens) else None)
        if not _same_text(record, then.text, now.text, cut=cut):
            return Difference(index, None, text_index)
    return None


def engine_reasons(record: Record, profile: ModelProfile) -> list[Reason]:
    """What is not as it was in the engine, and what makes even an equal engine inexact."""
    then, now = record.engine, describe_engine(profile)
    found = []
    if record.base_sha256 != profile.sha256:
        says = f"other weights: {record.base} then, {profile.name} now"
        found.append(Reason("weights", says, True, record.base_sha256, profile.sha256))
    if not then:
        says = "the turn was written down by a release that noted no engine version"
        return [*found, Reason("engine_unknown", says, True)]
    for name, says, matters in (
        ("name", "another engine", True),
        ("version", "another version of the engine", True),
        ("device", "another kind of device", True),
        ("dtype", "another number format", True),
        ("flags", "the engine was started with other options", True),
        ("release", "another release of this program, which reads markers", record.cites),
    ):
        if then.get(name) != now[name]:
            code = name if name == "release" else f"engine_{name}"
            found.append(Reason(code, says, matters, then.get(name), now[name]))
    if not (then.get("flags", {}).get("batch_invariant") and profile.flags.get("batch_invariant")):
        beside = f"{record.others} other turns were" if record.others != 1 else "one other turn was"
        says = f"the engine's rounding depends on what it decodes together; {beside} at work beside this one"
        if record.cached_tokens:
            says += f", and {record.cached_tokens} tokens of the prompt came from the prefix cache"
        found.append(Reason("batch", says, True, record.others, None))
    return found


def _same_text(record: Record, then: str, now: str, *, cut: bool) -> bool:
    if then == now or (cut and now.startswith(then)) or record.options.get("functions"):
        return True  # where functions were offered, calls were told from the text: the tokens decide
    listed = record.options.get("citations") == "links" and then.startswith(now)
    return listed and then[len(now) :].startswith(LINKS_BEGIN)


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items both begin with."""
    end = object()
    pairs = zip_longest(one, other, fillvalue=end)
    return next((at for at, (left, right) in enumerate(pairs) if left != right), len(one))


def _rows(packed: bytes | None, lengths: Sequence[int] | None) -> tuple[Ids, ...] | None:
    """Token ids row by row; without lengths, from an older release, as one row."""
    if packed is None:
        return None
    ids = np.frombuffer(packed, "<u4").tolist()
    bounds = pairwise(accumulate(lengths, initial=0)) if lengths is not None else [(0, len(ids))]
    return tuple(tuple(ids[start:end]) for start, end in bounds)


def _choices(row: Mapping[str, Any]) -> tuple[Said, ...] | None:
    if row.get("replies.texts") is None or row["replies.token_ids"] is None:
        return None
    texts = json.loads(row["replies.texts"])
    lengths = _loaded(row, "replies.token_lengths", None)
    if lengths is None and len(texts) != 1:
        return None  # of an older release: nobody knows any more where one choice's tokens end
    tokens = _rows(row["replies.token_ids"], lengths) or ()
    finishes = _loaded(row, "replies.finishes", [None] * len(texts))
    return tuple(map(Said, tokens, texts, finishes))


def _messages(packed: str | None) -> tuple[Mapping[str, Any], ...] | None:
    if packed is None:
        return None
    said = json.loads(packed)
    return tuple(
        {
            "role": one.pop("role"),
            "content": one.pop("text"),
            **{name: value for name, value in one.items() if value},
        }
        for one in said
    )


def _loaded(row: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    packed = row.get(name)
    return otherwise if packed is None else json.loads(packed)
