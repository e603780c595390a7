"""Where versions come from and lie: the data folder's `adapters/`, filled from uploads and an inbox."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from server.adapters.book import Book
from server.adapters.intake import Bounds, Intake
from server.adapters.names import checked_name
from server.adapters.records import Artefact, Base
from server.errors import InvalidValue
from server.models import ModelUnavailable

ABANDONED_SECONDS = 3600.0


class Shelf:
    """Calls block. The base model's files are read once, when the first version comes.

    `model` gives the base model's folder and may raise; `inbox` is the only folder that callers may name
    folders of.
    """

    def __init__(self, root: Path, model: Callable[[], Base], bounds: Bounds, inbox: Path) -> None:
        self._root = root
        self._model = model
        self._bounds = bounds
        self._inbox = inbox
        self._base: Base | None = None
        self._lock = Lock()

    @property
    def bytes(self) -> int:
        """Of all files of one version, at most."""
        return self._bounds.bytes

    def intake(self) -> Intake:
        """Raises InvalidValue when the base model is no local folder."""
        with self._lock:
            if self._base is None:
                try:
                    self._base = self._model()
                except ModelUnavailable as problem:
                    raise InvalidValue(
                        "adapters are held against the base model, and engine.model is no folder here; fetch "
                        "it with `fewshot models fetch`, or name a folder",
                        param="engine.model",
                    ) from problem
            return Intake(self._root, self._base, self._bounds)

    def in_place(self, name: str, version: str) -> Artefact:
        """What training wrote into the data folder. Raises NotFound, InvalidValue."""
        return self.intake().in_place(name, version)

    def upload(self, name: str, version: str | None, files: Iterable[tuple[str, BinaryIO]]) -> Artefact:
        """Raises InvalidValue, also when the content is not the version said."""
        return self._said(self.intake().from_streams(files, name=name), version)

    def from_inbox(self, name: str, version: str | None, folder: str) -> Artefact:
        """A folder of the inbox by its name. Raises InvalidValue."""
        if folder != Path(folder).name or folder in ("", ".", "..") or "\0" in folder:
            raise InvalidValue(
                f"{folder[:100]!r} is no name of a folder in adapters.inbox; paths are not followed",
                param="inbox",
            )
        return self._said(self.intake().from_folder(self._inbox / folder, name=checked_name(name)), version)

    def by_path(self, name: str, path: str) -> Artefact:
        """A path that leads, as written, to a folder right inside the inbox. Raises InvalidValue."""
        asked = Path(path)
        plain = "\0" not in path and ".." not in asked.parts
        if not plain or asked.parent not in (self._inbox, self._inbox.resolve(), Path(".")):
            raise InvalidValue(
                "lora_path must be a folder right inside adapters.inbox; put it there and name it",
                param="lora_path",
            )
        return self.from_inbox(name, None, asked.name)

    def remove(self, book: Book, reference: str, *, by: str) -> None:
        """Out of the book, then off the disk. Raises NotFound, AdapterInUse."""
        entry = book.delete(reference, by=by)
        folder = entry.artefact.folder
        if not folder.exists():
            return
        # Renamed first: a crash in the middle leaves no folder that looks whole.
        gone = self._root / f".removed-{entry.number}"
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a crash left half way in or out. What is young may be another server's, at work."""
        for pattern in (".incoming-*", ".removed-*"):
            for folder in self._root.glob(pattern):
                with contextlib.suppress(OSError):
                    if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                        shutil.rmtree(folder, ignore_errors=True)

    def _said(self, artefact: Artefact, version: str | None) -> Artefact:
        if version is not None and artefact.version != version:
            raise InvalidValue(
                f"these files are version {artefact.version}: a version is named by its content. Leave it "
                "out, or send the files of the version that you name",
                param="version",
            )
        return artefact
