"""Settings → the pools of worked examples that arms and templates pick from."""

from functools import partial
from pathlib import Path
from typing import Any

from indexer.devices import torch_names
from indexer.embedders import Embedders
from indexer.embedding import open_embedder
from indexer.seams import Embedder
from prompts.demos import Pool
from prompts.pools import MANIFEST, open_pool
from prompts.vectors import evened
from server.demonstrations import PoolDemos
from server.settings import Settings


def open_demos(settings: Settings, embedders: Embedders, embedder: Embedder) -> PoolDemos:
    """The default pool and those of `paths.pools`. Raises PoolInvalid, EmbedderMissing."""
    paths, knobs = settings.paths, settings.demos
    files = {} if paths.pools is None else pool_files(paths.pools)
    if paths.demos is None and not files:
        return PoolDemos(None)
    if knobs.embedder is not None:
        embedder = open_embedder(
            knobs.embedder, paths.cache / "models", torch_names(settings.retrieval.device)
        )
    embed = evened(embedder.passages, knobs.poolings)

    digest = embedder.digest if knobs.poolings == 1 else f"{embedder.digest}/{knobs.poolings}"

    def load(file: Path, cache: Path) -> Pool:
        known: dict[str, Any] = {"embed": embed, "embedder": digest, "cache": cache}
        if (file.parent / MANIFEST).is_file():  # of `fewshot prompts pool build`
            return open_pool(file.parent, **known, label_weight=knobs.label_weight)
        return Pool.load(file, **known, label_weight=knobs.label_weight)

    cache = paths.data / "pools"
    pools = {name: load(file, cache / name) for name, file in files.items()}
    shared = knobs.embedder is None and knobs.poolings == 1  # the search's vector of the question serves here
    return PoolDemos(
        None if paths.demos is None else load(paths.demos, cache),
        partial(embedders.query, embedder) if shared else None,
        pools,
    )


def pool_files(folder: Path) -> dict[str, Path]:
    """`name@version` to file, of a folder laid out as `<name>/<version>/demos.jsonl`."""
    found = sorted(folder.glob("*/*/demos.jsonl"))
    return {f"{file.parent.parent.name}@{file.parent.name}": file for file in found}
