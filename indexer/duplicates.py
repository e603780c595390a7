"""Files that repeat another's bytes: one of them has the documents, the others name it in `same_as`.

When the one that has them leaves or changes, they go to the next, so the content stays findable and
nothing is embedded again.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

import sqlalchemy as sa

from indexer import schema


class Content(NamedTuple):
    """What decides how a file reads: its bytes, and the suffix that settles ties between kinds of text."""

    sha256: str
    suffix: str

    @classmethod
    def of(cls, sha256: str, filename: str) -> "Content":
        return cls(sha256, PurePosixPath(filename).suffix.lower())


def hand_over(connection: sa.Connection, file_id: str) -> str | None:
    """Give the file's live documents to the first one that repeats it. Its id; None if there is none.

    Within the transaction that changes or deletes the file, before its own documents are buried.
    """
    files, documents = schema.files, schema.documents
    repeating = sa.select(files.c.id).where(files.c.same_as == file_id).order_by(files.c.source)
    heirs = list(connection.execute(repeating).scalars())
    if not heirs:
        return None
    heir = str(heirs[0])
    connection.execute(
        sa.update(documents)
        .where(documents.c.file_id == file_id, documents.c.died.is_(None))
        .values(file_id=heir)
    )
    had = sa.select(files.c.chunks).where(files.c.id == file_id).scalar_subquery()
    connection.execute(sa.update(files).where(files.c.id == heir).values(same_as=None, chunks=had))
    connection.execute(sa.update(files).where(files.c.id == file_id).values(chunks=0))
    connection.execute(sa.update(files).where(files.c.id.in_(heirs[1:])).values(same_as=heir))
    return heir


def repeat(connection: sa.Connection, store_id: str, file_id: str, sha256: str, holder: str) -> bool:
    """Let a file name the one at the source `holder` as the owner of its content; False if that is not so."""
    files = schema.files
    owner = connection.execute(
        sa.select(files.c.id).where(
            files.c.store_id == store_id,
            files.c.source == holder,
            files.c.sha256 == sha256,
            files.c.state == "completed",
            files.c.same_as.is_(None),
        )
    ).scalar()
    connection.execute(sa.update(files).where(files.c.id == file_id).values(same_as=owner))
    return owner is not None


class Owners:
    """Who has which content in a store, as a run goes through its files: what the catalogue will say.

    A file that is still to be looked at in this run may have changed since; what it had is not
    relied on before it was seen.
    """

    def __init__(self, connection: sa.Connection, store_id: str, coming: Iterable[str]) -> None:
        """`coming` are the sources of the run."""
        self._coming = set(coming)
        self._owner: dict[Content, str] = {}
        self._content: dict[str, Content] = {}  # of owners
        self._heirs: dict[str, set[str]] = {}  # of owners: who repeats them
        self._repeated: dict[str, str] = {}  # the same, by who repeats
        files = schema.files
        query = sa.select(files.c.id, files.c.source, files.c.filename, files.c.sha256, files.c.same_as)
        rows = connection.execute(
            query.where(
                files.c.store_id == store_id, files.c.state == "completed", files.c.upload_id.is_(None)
            )
        ).all()
        sources = {row.id: row.source for row in rows}
        for row in rows:
            if row.same_as is None:
                self.owns(row.source, Content.of(row.sha256, row.filename))
        for row in rows:
            if row.same_as in sources:
                self.repeats(row.source, sources[row.same_as])

    def contents(self) -> set[Content]:
        """All that is known to be in the store."""
        return set(self._owner)

    def has(self, content: Content) -> str | None:
        """The source that has it, if it is known to have it still."""
        owner = self._owner.get(content)
        return None if owner in self._coming else owner

    def may_have(self, content: Content, source: str) -> bool:
        """Whether another source, still to come, had it when it was last seen."""
        owner = self._owner.get(content)
        return owner != source and owner in self._coming

    def unchanged(self, source: str) -> None:
        """The source was looked at and is what it was."""
        self._coming.discard(source)

    def changed(self, source: str) -> bool:
        """The source has other content than it had. Whether another one keeps what it had."""
        self._coming.discard(source)
        if source in self._repeated:
            self._heirs[self._repeated.pop(source)].discard(source)
        content = self._content.pop(source, None)
        if content is None or self._owner.get(content) != source:
            return False
        del self._owner[content]
        heirs = self._heirs.pop(source, set())
        if not heirs:
            return False
        heir = min(heirs)  # as `hand_over` chooses
        del self._repeated[heir]
        self.owns(heir, content)
        for other in heirs - {heir}:
            self.repeats(other, heir)
        return True

    def owns(self, source: str, content: Content) -> None:
        """The source was read without errors: it has this content itself."""
        self._content[source] = content
        self._owner.setdefault(content, source)

    def repeats(self, source: str, owner: str) -> None:
        """The source has no documents but those of the owner."""
        self._repeated[source] = owner
        self._heirs.setdefault(owner, set()).add(source)
