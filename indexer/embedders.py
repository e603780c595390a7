"""The embedding models that stores were built with, opened when a search first needs them."""

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexer.embedding import open_embedder
from indexer.errors import EmbedderMismatch, EmbedderMissing
from indexer.seams import Embedder, Vectors

REMEMBERED = 64  # questions whose vectors are kept


class Embedders:
    """Models by digest: those given, and those found under a folder by name. Safe for several threads."""

    def __init__(self, models: Path | None, *given: Embedder, devices: Sequence[str] = ()) -> None:
        """`models` holds a folder per model; None means that only the given ones may be used.

        `devices` as torch names them, for models opened here; none: the best there is.
        """
        self._models = models
        self._given = given
        self._devices = devices
        self._opened: dict[str, Embedder] = {}  # by digest
        self._opening = threading.Lock()
        self._vectors: OrderedDict[tuple[str, str], Vectors] = OrderedDict()
        self._remembering = threading.Lock()

    def of(self, name: str, digest: str, store: str) -> Embedder:
        """The model of that digest; the names are those of the model and of the store that asks.

        Raises `EmbedderMissing` when no model has that name, `EmbedderMismatch` when one has and its
        digest is another.
        """
        with self._opening:
            if digest not in self._opened:
                self._opened[digest] = self._open(name, digest, store)
            return self._opened[digest]

    def named(self, name: str) -> Embedder:
        """A given model, or the one of that name among the models here: never a path, never a download.

        Raises `EmbedderMissing`.
        """
        with self._opening:
            for embedder in (*self._given, *self._opened.values()):
                if embedder.name == name:
                    return embedder
            here = self._models is not None and re.fullmatch(r"\w[\w.-]*", name)
            if self._models is None or not here or not (self._models / name).is_dir():
                raise EmbedderMissing(f"no embedding model '{name}' on this server; GET /v1/models names one")
            embedder = open_embedder(name, self._models, self._devices)
            return self._opened.setdefault(embedder.digest, embedder)

    def query(self, embedder: Embedder, text: str) -> Vectors:
        """The question's vector; a question asked again a moment later is not embedded again."""
        key = (embedder.digest, text)
        with self._remembering:
            if key in self._vectors:
                self._vectors.move_to_end(key)
                return self._vectors[key]
        vector = np.asarray(embedder.query(text))
        with self._remembering:
            self._vectors[key] = vector
            if len(self._vectors) > REMEMBERED:
                self._vectors.popitem(last=False)
        return vector

    def warm(self) -> None:
        """Load the given models now, so that the first question does not wait for one."""
        for embedder in self._given:
            embedder.query("warm")

    def _open(self, name: str, digest: str, store: str) -> Embedder:
        near: Embedder | None = None
        for embedder in self._given:
            if embedder.digest == digest:
                return embedder
            near = embedder
        if self._models is not None and (name == "hash" or "/" in name or (self._models / name).is_dir()):
            near = open_embedder(name, self._models, self._devices)
            if near.digest == digest:
                return near
        if near is None or (self._models is not None and near.name != name):
            raise EmbedderMissing(
                f"store '{store}' was built with {name} ({digest[:12]}), which is not in {self._models}: "
                "put the model there, or give its folder with --embedder"
            )
        raise EmbedderMismatch(
            f"store '{store}' was built with {name} ({digest[:12]}), not {near.name} "
            f"({near.digest[:12]}): use --embedder {name}, or another store"
        )
