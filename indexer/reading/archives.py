"""Zip containers and the XML in them, opened with limits: every such format goes through here."""

import io
import posixpath
import re
import zipfile
import zlib
from typing import Any

from lxml import etree  # type: ignore[import-untyped]

from indexer.errors import DamagedDocument, ProtectedDocument, UnsafeDocument

MOST_ENTRIES = 2_000
MOST_EXPANDED_BYTES = 200 << 20
MOST_RATIO = 100  # expanded / packed, of the whole container
BROKEN = (
    zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError, EOFError, NotImplementedError,
)  # fmt: skip
_ENTITIES = re.compile(rb"<!(ENTITY)", re.I)


def open_archive(data: bytes) -> zipfile.ZipFile:
    """The container, its directory checked.

    Raises `DamagedDocument`, `ProtectedDocument`, or `UnsafeDocument` when what it says it holds is
    over the limits. What a member really expands to never exceeds what the directory says of it.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
    except BROKEN as error:
        what = "Office document" if b"[Content_Types].xml" in data[:512] else "zip archive"
        raise DamagedDocument(f"damaged or cut-off {what}: {error}") from error
    if any(entry.flag_bits & 1 for entry in entries):
        raise ProtectedDocument("encrypted zip archive: unpack it first")
    expanded = sum(entry.file_size for entry in entries)
    if (
        len(entries) > MOST_ENTRIES
        or expanded > MOST_EXPANDED_BYTES
        or expanded > MOST_RATIO * len(data) + (1 << 20)
    ):
        raise UnsafeDocument(
            f"{len(entries)} entries and {expanded >> 20} MiB inside {len(data) >> 10} KiB: "
            "over the limits for a document"
        )
    return archive


def member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one member; raises `DamagedDocument`."""
    try:
        return archive.read(name)
    except BROKEN as error:
        raise DamagedDocument(f"damaged: '{name}' inside it cannot be read ({error})") from error


def parsed(content: bytes, name: str, mend: bool = False) -> Any:
    """The root element of an XML file, nothing fetched and no entity expanded.

    Raises `UnsafeDocument` for entities of its own or too much nesting, else `DamagedDocument`.
    `mend` reads on after what is not well-formed.
    """
    if _ENTITIES.search(content.replace(b"\0", b"")):  # in UTF-16 too
        raise UnsafeDocument(f"{name} declares entities: not read, they can stand for anything")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=mend
    )
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        if "depth" in str(error):
            raise UnsafeDocument(f"{name} is nested too deeply") from error
        raise DamagedDocument(f"damaged XML in {name}: {error}") from error
    if root is None:
        raise DamagedDocument(f"damaged XML in {name}: no element in it")
    return root


def local(element: Any) -> str:
    """The element's name without its namespace; "" for comments and instructions."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def relations(archive: zipfile.ZipFile, part: str, external: bool = False) -> dict[str, str]:
    """Relation id -> the member, or the address, that it leads one part of an Office file to."""
    return {
        each.get("Id", ""): _target(part, each)
        for each in _related(archive, part)
        if (each.get("TargetMode") == "External") == external
    }


def related(archive: zipfile.ZipFile, part: str, *kinds: str) -> dict[str, str]:
    """Relations of these kinds alone, such as `notesSlide`."""
    return {
        each.get("Id", ""): _target(part, each)
        for each in _related(archive, part)
        if each.get("Type", "").rpartition("/")[2] in kinds and each.get("TargetMode") != "External"
    }


def _related(archive: zipfile.ZipFile, part: str) -> list[Any]:
    folder, name = posixpath.split(part)
    path = posixpath.join(folder, "_rels", f"{name}.rels")
    if path not in archive.namelist():
        return []
    return [
        each
        for each in parsed(member(archive, path), path, mend=True).iter()
        if local(each) == "Relationship"
    ]


def _target(part: str, relation: Any) -> str:
    target = str(relation.get("Target", ""))
    if relation.get("TargetMode") == "External":
        return target
    return posixpath.normpath(posixpath.join("/", posixpath.dirname(part), target)).lstrip("/")
