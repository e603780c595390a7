"""Into the registry: a folder or an upload becomes our own checked copy, or nothing changes.

The bytes are copied first and checked in the copy, so nobody can change them in between. The folder takes
its name when it is whole: `<root>/<name>/<version>/`, never changed afterwards.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from indexer.durability import sync, sync_names
from server.adapters import checks, manifest, whole
from server.adapters.folder import (
    CONFIG,
    LEFT_OUT,
    SHARDS,
    TOKENIZER,
    WEIGHTS,
    check_file_name,
    file_names,
    model_files,
    opened,
    sha256_of,
    write_copy,
)
from server.adapters.names import NAME, VERSION, checked_name
from server.adapters.peft_config import read_peft_config
from server.adapters.records import Artefact, Base, Kind
from server.errors import InvalidValue, NotFound, UnsupportedAdapterKind

HOW_ELSE = {  # of kinds that no path of this server takes live
    "features": "classifiers on features answer through /v1/classify, not as a language model",
    "reward": "reward models are used inside training",
    "lora-classifier": "it needs a pooling engine; train a LoRA on the label words instead",
}
BESIDE = frozenset({"lora", "soft-prompt", "prefix"})  # the base's own weights stay
WHOLE = frozenset({"ia3", "delta", "full", "bottleneck"})  # each needs an engine of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What this server takes."""

    kinds: frozenset[str] = BESIDE | WHOLE
    rank: int = 64  # of a LoRA, at most
    tokens: int = 4096  # of a soft prompt, at most
    prefix_tokens: int = 4096  # of a prefix, at most
    block: int = 1  # tokens of a KV block; prefixes fill whole ones
    bytes: int = 2**32  # of all files together


@dataclass(frozen=True, slots=True)
class Intake:
    """The folder `root` that holds every version."""

    root: Path
    base: Base
    bounds: Bounds

    def from_folder(self, folder: Path, *, name: str | None = None) -> Artefact:
        """Copy in. Raises InvalidValue, UnsupportedAdapterKind; then nothing has changed."""
        with ExitStack() as stack:
            names = file_names(folder)
            streams = ((each, stack.enter_context(opened(folder, each))) for each in names)
            return self.from_streams(streams, name=name)

    def from_streams(self, files: Iterable[tuple[str, BinaryIO]], *, name: str | None = None) -> Artefact:
        """Copy in what was uploaded, (file name, its bytes). Raises as `from_folder`."""
        self.root.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".incoming-", dir=self.root))
        try:
            digests: dict[str, str] = {}
            left = self.bounds.bytes
            for each, stream in files:
                check_file_name(each)
                if each in LEFT_OUT:
                    continue
                if each in digests:
                    raise InvalidValue(f"{each} came twice", param=each)
                digests[each] = write_copy(stream, staged / each, most_bytes=left)
                left -= (staged / each).stat().st_size
            artefact = self._inspect(staged, digests, name)
            return self._publish(staged, artefact)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def in_place(self, name: str, version: str) -> Artefact:
        """A folder that training wrote here itself. Raises NotFound, and as `from_folder`."""
        if not NAME.fullmatch(name) or not VERSION.fullmatch(version):
            raise InvalidValue("name and version must be those of an artefact's manifest", param="version")
        folder = self.root / name / version
        if not (folder / manifest.NAME).is_file() or folder.resolve() != self.root.resolve() / name / version:
            raise NotFound(f"there is no artefact {name}@{version}; `fewshot adapters add FOLDER` brings one")
        artefact = self._inspect(
            folder, {each: sha256_of(folder / each) for each in file_names(folder)}, None
        )
        if (artefact.name, artefact.version) != (name, version):
            raise InvalidValue(
                f"the folder says that it is {artefact.reference}; copy it in with `fewshot adapters add`",
                param="version",
            )
        return artefact

    def _inspect(self, folder: Path, digests: Mapping[str, str], name: str | None) -> Artefact:
        """Every check there is."""
        if manifest.NAME in digests:
            said = manifest.read_manifest((folder / manifest.NAME).read_bytes())
            content = {each: digest for each, digest in digests.items() if each != manifest.NAME}
            unlisted = {each for each in content if each not in said.files} - {manifest.REPORT}
            for each in sorted({*said.files, *unlisted}):
                if content.get(each) != said.files.get(each):
                    raise InvalidValue(
                        f"{each[:100]} is missing, unlisted, or not the file that the manifest was written "
                        "for; copy the folder again",
                        param=each[:100],
                    )
            if name is not None and name != said.name:
                raise InvalidValue(f"the manifest says the name is {said.name!r}", param="name")
            if said.base != self.base.digest:
                raise InvalidValue(
                    f"it was trained on another base (digest {said.base[:12]}…); this server runs "
                    f"{self.base.name} ({self.base.digest[:12]}…). Train it on this one, or serve that one",
                    param=f"{manifest.NAME}.base.digest",
                )
        else:
            said = self._adopted(folder, digests, name)
        kind = said.kind
        if kind not in self.bounds.kinds or kind in HOW_ELSE:
            raise UnsupportedAdapterKind(
                f"adapters of the kind {kind!r} cannot be loaded here: "
                + HOW_ELSE.get(kind, "the server was started without room for them; see docs/adapters.md"),
                param="kind",
            )
        length = self._measure(folder, digests, kind)
        return Artefact(
            name=said.name,
            version=said.version,
            kind=kind,
            digest=said.digest,
            base=said.base,
            folder=folder,
            bytes=sum((folder / each).stat().st_size for each in digests),
            length=length,
            created=said.created,
            parent=said.parent,
            metrics=said.metrics,
        )

    def _measure(self, folder: Path, digests: Mapping[str, str], kind: str) -> int:
        """Rank or tokens, 0 where there is neither, when every tensor was held against the base."""
        if kind == "full":
            whole.check_full(folder, self._model(digests), self.base)
            return 0
        config = read_peft_config((folder / CONFIG).read_bytes()) if CONFIG in digests else None
        if config is not None and config.kind != kind:
            raise InvalidValue(f"{CONFIG} is of a {config.kind}, the manifest of a {kind}", param=CONFIG)
        weights = self._weights(digests)
        file = folder / weights
        if kind == "delta":
            whole.check_delta(file, self.base)
            return 0
        if kind == "bottleneck":
            whole.check_bottleneck(file, self.base)
            return 0
        if kind in ("lora", "ia3") and (config is None or weights != WEIGHTS[0]):
            raise InvalidValue(
                f"a {kind} is {WEIGHTS[0]} with {CONFIG}, as peft saves it; {CONFIG} is missing", param=CONFIG
            )
        if kind == "ia3":
            whole.check_ia3(file, self.base)
            return 0
        if kind == "lora" and config is not None:
            return checks.check_lora(file, config, self.base, most_rank=self.bounds.rank)
        said = config.length if config else None
        if kind == "soft-prompt":
            length = checks.check_vectors(file, said, self.base)
            most, setting = self.bounds.tokens, "engine.soft_rows"
        else:
            length = checks.check_prefix(file, said, self.base, block=self.bounds.block)
            most, setting = self.bounds.prefix_tokens, "engine.prefix_rows"
        if length > most:
            raise InvalidValue(
                f"it has {length} virtual tokens, this server takes {most}; train a shorter one or raise "
                f"{setting}",
                param=weights,
            )
        return length

    def _model(self, digests: Mapping[str, str]) -> list[str]:
        there = model_files(digests)
        strange = sorted({*digests} - {*there, *SHARDS, *TOKENIZER, manifest.NAME, manifest.REPORT})
        if strange or not there or (len(there) > 1 and SHARDS[0] in there):
            raise InvalidValue(
                f"a whole model is {SHARDS[0]}, or model-….safetensors with their index, and {SHARDS[2]}; "
                + (f"remove {strange[0][:100]}" if strange else "save it with save_pretrained"),
                param="file",
            )
        return there

    def _weights(self, digests: Mapping[str, str]) -> str:
        found = [each for each in WEIGHTS if each in digests]
        if len(found) != 1 or any(
            each not in (*WEIGHTS, CONFIG, manifest.NAME, manifest.REPORT) for each in digests
        ):
            raise InvalidValue(
                f"there must be one file of weights ({' or '.join(WEIGHTS)}) with {CONFIG}, and no "
                "other files",
                param="file",
            )
        return found[0]

    def _adopted(self, folder: Path, digests: Mapping[str, str], name: str | None) -> manifest.Manifest:
        """A plain folder gets the manifest it lacks; its base can only be judged by names and shapes."""
        kind: Kind = "full"
        if CONFIG in digests:
            kind = read_peft_config((folder / CONFIG).read_bytes()).kind
        elif not (SHARDS[2] in digests and model_files(digests)):
            raise InvalidValue(
                f"there is neither {manifest.NAME} nor {CONFIG}, nor a whole model: send a folder of "
                "`fewshot train`, of peft or of transformers",
                param=manifest.NAME,
            )
        if name is None:
            raise InvalidValue("a folder without a manifest needs a name", param="name")
        digest = manifest.content_digest(digests, kind, self.base.digest)
        return manifest.Manifest(
            name=checked_name(name),
            kind=kind,
            files=dict(digests),
            base=self.base.digest,
            digest=digest,
            created=time.time(),
        )

    def _publish(self, staged: Path, artefact: Artefact) -> Artefact:
        """Give the folder its name; the manifest is what makes it exist, so it is there before the name."""
        if not (staged / manifest.NAME).exists():
            _write_manifest(staged, artefact)
        os.chmod(staged, 0o755)
        sync(staged)
        target = self.root / artefact.name / artefact.version
        target.parent.mkdir(exist_ok=True)
        try:
            staged.rename(target)
        except OSError:
            if not (target / manifest.NAME).is_file():
                raise
            return self.in_place(artefact.name, artefact.version)  # the same bytes came before
        sync_names(target.parent, self.root.parent)
        return replace(artefact, folder=target)


def _write_manifest(folder: Path, artefact: Artefact) -> None:
    files = {
        each: {"sha256": sha256_of(folder / each), "bytes": (folder / each).stat().st_size}
        for each in file_names(folder)
    }
    said = {
        "format": manifest.FORMAT,
        "name": artefact.name,
        "version": artefact.version,
        "kind": artefact.kind,
        "files": files,
        "digest": artefact.digest,
        "base": {"digest": artefact.base},
        "method": {"library": "transformers" if artefact.kind == "full" else "peft"},
        "created": artefact.created,
    }
    with (folder / manifest.NAME).open("x", encoding="utf-8") as stream:
        json.dump(said, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
