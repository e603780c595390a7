"""A model folder with more rows in its embedding than it came with: room for soft prompts and prefixes.

Changing the vocabulary by a setting alone fails: vLLM holds the tensors to it. So the shard with the
embedding is written again with rows of zeros behind it, once; all other files are linked.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

EVEN = 64  # vLLM pads the vocabulary to this
BLOCK = 2**24


class Rows(NamedTuple):
    folder: Path
    first: int  # id of the first reserved row
    size: int


def with_rows(model: Path, count: int, cache: Path, digest: str) -> Rows:
    """The folder under `cache`, made if it is not there. `digest` is the model's.

    Raises ValueError for a model whose embedding cannot be found.
    """
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    vocabulary = int(config["vocab_size"])
    count += -(vocabulary + count) % EVEN
    target = cache / f"{model.name}-{digest[:12]}-{count}"
    if not (target / "config.json").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".rows-", dir=cache))
        try:
            _write(model, scratch, config, vocabulary, count)
            os.chmod(scratch, 0o755)
            scratch.rename(target)
        except OSError:
            if not (target / "config.json").is_file():  # else another server was faster
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return Rows(target, vocabulary, count)


def _write(model: Path, folder: Path, config: dict[str, Any], vocabulary: int, count: int) -> None:
    found = False
    for file in sorted(model.iterdir()):
        if not file.is_file() or file.name == "config.json":
            continue
        grown = file.suffix == ".safetensors" and _grow(file, folder / file.name, vocabulary, count)
        found |= grown
        if not grown:
            link(file, folder / file.name)
    if not found:
        raise ValueError(f"no tensor of {vocabulary} rows called embed_tokens in {model.name}")
    text = json.dumps({**config, "vocab_size": vocabulary + count}, indent=1)
    (folder / "config.json").write_text(text, encoding="utf-8")


def _grow(source: Path, target: Path, vocabulary: int, count: int) -> bool:
    """Whether `source` held the embedding; then `target` is it with rows of zeros behind."""
    with source.open("rb") as reading:
        length = int.from_bytes(reading.read(8), "little")
        header = json.loads(reading.read(length))
        tensors = sorted(
            (name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"]
        )
        grows = {
            name
            for name in tensors
            if header[name]["shape"][:1] == [vocabulary]
            and name.endswith(("embed_tokens.weight", "lm_head.weight"))
        }
        if not grows:
            return False
        added: dict[str, int] = {}
        end, new = 0, {name: value for name, value in header.items() if name == "__metadata__"}
        for name in tensors:
            entry = header[name]
            start, stop = entry["data_offsets"]
            added[name] = (stop - start) // vocabulary * count if name in grows else 0
            size = stop - start + added[name]
            shape = [vocabulary + count, *entry["shape"][1:]] if name in grows else entry["shape"]
            new[name] = {**entry, "shape": shape, "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(new).encode()
        text += b" " * (-len(text) % 8)
        with target.open("wb") as writing:
            writing.write(len(text).to_bytes(8, "little") + text)
            for name in tensors:
                start, stop = header[name]["data_offsets"]
                reading.seek(8 + length + start)
                left = stop - start
                while left:
                    part = reading.read(min(left, BLOCK))
                    if not part:
                        raise ValueError(f"{source.name} is cut short")
                    writing.write(part)
                    left -= len(part)
                writing.write(b"\0" * added[name])
    return True


def link(source: Path, target: Path) -> None:
    """A hard link, or a copy where there can be none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
