"""manifest.json, written last by whoever made the folder; and the digest that names a version."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from server.adapters.names import checked_name
from server.adapters.records import Kind
from server.errors import InvalidValue, UnsupportedAdapterKind

FORMAT = 1
NAME = "manifest.json"
REPORT = "report.json"
LARGEST = 4 * 2**20  # bytes
KINDS = get_args(Kind)
KNOWN = frozenset(
    {"format", "name", "version", "kind", "files", "digest", "base", "method", "data", "template", "metrics",
     "served", "created", "parent", "licence"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a folder says of itself, consistent within."""

    name: str
    kind: Kind
    files: Mapping[str, str]  # file name → sha256
    base: str  # digest of the base model
    digest: str
    created: float
    parent: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return self.digest[:12]


def content_digest(files: Mapping[str, str], kind: str, base: str) -> str:
    """SHA-256 over the sorted files, the kind and the base digest. Reports hold timings: outside."""
    listed = sorted((name, sha256) for name, sha256 in files.items() if name != REPORT)
    said = json.dumps({"base": base, "files": listed, "kind": kind}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()


def read_manifest(text: bytes) -> Manifest:
    """Raises InvalidValue or UnsupportedAdapterKind naming the field."""
    if len(text) > LARGEST:
        raise _refused(f"it has {len(text)} bytes; at most {LARGEST} are read")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise _refused("it is not JSON") from None
    if not isinstance(said, dict):
        raise _refused("it is no JSON object")
    if strange := sorted(set(said) - KNOWN):
        raise _refused(f"it has the field {strange[0][:64]!r}, which this release does not know", strange[0])
    if said.get("format") != FORMAT:
        raise _refused(f"its format is {said.get('format')!r}; this release reads {FORMAT}", "format")
    kind: Any = said.get("kind")
    if kind not in KINDS:
        raise UnsupportedAdapterKind(
            f"{NAME}: the kind {str(kind)[:64]!r} is none of {', '.join(KINDS)}", param=f"{NAME}.kind"
        )
    files, base = said.get("files"), said.get("base")
    base_digest = base.get("digest") if isinstance(base, dict) else None
    if not isinstance(base_digest, str) or not base_digest:
        raise _refused("it does not name the digest of its base model", "base.digest")
    if not isinstance(files, dict) or not all(_is_file(entry) for entry in files.values()):
        raise _refused("files must give each file's sha256 and bytes", "files")
    digests = {name: entry["sha256"] for name, entry in files.items()}
    digest = content_digest(digests, kind, base_digest)
    for name, wanted in (("digest", digest), ("version", digest[:12])):
        if said.get(name) != wanted:
            raise _refused(f"its {name} does not follow from its files, kind and base", name)
    return Manifest(
        name=checked_name(str(said.get("name")), param=f"{NAME}.name"),
        kind=kind,
        files=digests,
        base=base_digest,
        digest=digest,
        created=_seconds(said.get("created")),
        parent=said["parent"] if isinstance(said.get("parent"), str) else None,
        metrics=said["metrics"] if isinstance(said.get("metrics"), dict) else {},
    )


def _is_file(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("sha256"), str)


def _seconds(created: Any) -> float:
    number = created if isinstance(created, int | float) and not isinstance(created, bool) else 0.0
    return float(number) if math.isfinite(number) and number >= 0 else 0.0


def _refused(why: str, field: str | None = None) -> InvalidValue:
    return InvalidValue(
        f"{NAME}: {why}. Write the folder again with `fewshot train`, or leave the manifest out of a plain "
        "peft folder",
        param=NAME if field is None else f"{NAME}.{field}"[:200],
    )
