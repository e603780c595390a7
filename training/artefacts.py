"""Trained results as folders that never change: name@version, the version a digest of the content.

<root>/<name>/<version>/
  adapter_model.safetensors + adapter_config.json   (as peft saves)
  report.json       what was measured; outside the digest
  manifest.json     written last: without it the folder does not exist
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from indexer.durability import sync
from training.errors import ArtefactRefused

FORMAT = 1
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
REPORT, MANIFEST = "report.json", "manifest.json"


class Published(NamedTuple):
    name: str
    version: str  # first 12 hexadecimal digits of the digest
    folder: Path
    bytes: int  # of the files that decide

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"


def publish(
    root: Path,
    name: str,
    kind: str,
    write: Callable[[Path], None],
    *,
    base: Mapping[str, Any],
    report: Mapping[str, Any],
    **said: Any,
) -> Published:
    """`write` puts the files into the folder that it is given; the whole appears under its digest at once.

    `base` holds at least the digest of the base model; `said` are further fields of the manifest (method,
    data, template, metrics, parent, licence). The same content gives the same version, and what is there
    already stays. Raises ArtefactRefused for a name that is none, or files that no server would read.
    """
    check_name(name)
    (root / name).mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=root / name))
    try:
        write(scratch)
        for stray in (scratch / "README.md", scratch / ".gitattributes"):
            stray.unlink(missing_ok=True)  # peft writes a model card
        refuse_unsafe(scratch)
        files = {path.name: described(path) for path in sorted(scratch.iterdir())}
        digest = content_digest(
            {file: entry["sha256"] for file, entry in files.items()}, kind, base["digest"]
        )
        (scratch / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        manifest = {
            "format": FORMAT,
            "name": name,
            "version": digest[:12],
            "kind": kind,
            "files": files | {REPORT: described(scratch / REPORT)},
            "digest": digest,
            "base": dict(base),
            "created": time.time(),
            **said,
        }
        (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        for path in scratch.iterdir():
            sync(path)
        sync(scratch)
        target = root / name / digest[:12]
        if not (target / MANIFEST).is_file():
            os.chmod(scratch, 0o755)
            scratch.rename(target)
            sync(target.parent)
        return Published(name, digest[:12], target, sum(entry["bytes"] for entry in files.values()))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def content_digest(files: Mapping[str, str], kind: str, base: str) -> str:
    """SHA-256 over the sorted (file, sha256) pairs without the report, the kind and the base digest."""
    listed = sorted([name, sha256] for name, sha256 in files.items() if name != REPORT)
    said = json.dumps({"base": base, "files": listed, "kind": kind}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()


def check_name(name: str) -> None:
    """Raises ArtefactRefused."""
    if not NAME.fullmatch(name):
        raise ArtefactRefused(
            f"{name!r} is no name of an adapter: lower-case letters, digits and hyphens, at most 63, "
            "a letter or digit first"
        )


def refuse_unsafe(folder: Path) -> None:
    """Raises ArtefactRefused for anything but plain safetensors, JSON and skops files."""
    for path in folder.iterdir():
        if path.is_symlink() or not path.is_file() or path.suffix not in (".safetensors", ".json", ".skops"):
            raise ArtefactRefused(
                f"{path.name} does not belong into an artefact: safetensors, JSON, skops only"
            )


def described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}
