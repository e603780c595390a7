"""E-mail to text: headers that matter, the body, and what is attached."""

import email
import hashlib
import re
from collections.abc import Callable, Iterator
from email.header import decode_header
from email.message import Message

from indexer.errors import NoText, Unreadable, UnsupportedFormat
from indexer.reading.decoding import clean, decode
from indexer.reading.outline import outlined
from indexer.reading.web import parsed_html, to_markdown
from indexer.records import Document, Reading, Section

_SHOWN = ("From", "To", "Cc", "Date", "Subject")
_DEEPEST = 3  # messages in messages
_MOST_ATTACHMENTS = 50
_FROM = re.compile(rb"^From \S.*\r?\n", re.M)

Inner = Callable[[bytes, str], Reading]
"""Reads an attachment: its bytes and its name."""


def read_mail(data: bytes, inner: Inner) -> Reading:
    """One message as one document, attachments read with it."""
    document, warnings = _message(data, inner, 0)
    return Reading((document,), warnings=warnings)


def read_mbox(data: bytes, inner: Inner) -> Reading:
    """A document per message; its Message-ID, or a digest of it, is its id."""
    documents: dict[str, Document] = {}
    warnings: list[str] = []
    for number, part in enumerate(_messages(data), start=1):
        document, found = _message(part, inner, 0)
        warnings += [f"message {number}: {warning}" for warning in found]
        identity = _header(email.message_from_bytes(part), "Message-ID").strip(" <>")
        identity = identity or hashlib.sha256(part).hexdigest()[:32]
        if identity in documents:
            warnings.append(f"message {number}: the same Message-ID as one before it, left out")
            continue
        documents[identity] = Document(document.title, document.sections, document.kind, identity)
    return Reading(tuple(documents.values()), warnings=tuple(warnings))


def _messages(data: bytes) -> Iterator[bytes]:
    starts = [found for found in _FROM.finditer(data) if _separates(data, found.start())]
    for at, found in enumerate(starts):
        end = starts[at + 1].start() if at + 1 < len(starts) else len(data)
        yield data[found.end() : end].replace(b"\n>From ", b"\nFrom ")


def _separates(data: bytes, start: int) -> bool:
    return not start or (
        data[max(0, start - 2) : start].endswith((b"\n\n", b"\r\n"))
        and (data[max(0, start - 4) : start].replace(b"\r", b"").endswith(b"\n\n"))
    )


def _message(data: bytes, inner: Inner, depth: int) -> tuple[Document, tuple[str, ...]]:
    message = email.message_from_bytes(data)
    subject = _header(message, "Subject")
    head = "".join(f"{name}: {value}\n" for name in _SHOWN if (value := _header(message, name)))
    sections = [Section(head + "\n")] if head else []
    warnings: list[str] = []
    attached: list[tuple[str, Message]] = []
    for part, body in _parts(message):
        if not body:
            attached.append((_header_text(part.get_filename() or ""), part))
            continue
        content, doubt = _content(part)
        warnings += [doubt] * bool(doubt)
        sections += outlined(content.strip("\n") + "\n\n") if content.strip() else ()
    for name, part in attached[:_MOST_ATTACHMENTS]:
        found, doubts = _attachment(name or part.get_content_type(), part, inner, depth)
        sections += found
        warnings += doubts
    if len(attached) > _MOST_ATTACHMENTS:
        warnings.append(f"{len(attached)} attachments: the first {_MOST_ATTACHMENTS} were read")
    warnings += [
        f"damaged e-mail: {type(defect).__name__}" for part in message.walk() for defect in part.defects
    ]
    return Document(subject, tuple(sections), "mail"), tuple(dict.fromkeys(warnings))


def _parts(message: Message) -> Iterator[tuple[Message, bool]]:
    """Leaves of the message, each with whether it is to be read as its body."""
    if message.get_content_type() == "message/rfc822":
        yield message, False
    elif message.is_multipart():
        children = [child for child in message.get_payload() if isinstance(child, Message)]
        if message.get_content_subtype() == "alternative":
            plain = [child for child in children if child.get_content_type() == "text/plain"]
            children = [child for child in plain if str(child.get_payload()).strip()] or children[-1:]
        for child in children:
            yield from _parts(child)
    else:
        named = message.get_filename() or message.get_content_disposition() == "attachment"
        text = message.get_content_type() in ("text/plain", "text/html", "text/enriched")
        yield message, text and not named


def _content(part: Message) -> tuple[str, str]:
    """A body as Markdown, and what is doubtful about it."""
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    charset = str(part.get_content_charset() or "utf-8")
    doubt = ""
    try:
        text = data.decode(charset)
    except (LookupError, UnicodeDecodeError, ValueError):
        doubt = f"its text is not in '{charset[:40]}' as it says: the encoding was guessed"
        try:
            text = decode(data)
        except UnsupportedFormat:
            text = data.decode("latin-1")
    if part.get_content_type() == "text/html":
        return to_markdown(parsed_html(text)), doubt
    return clean(text), doubt


def _attachment(name: str, part: Message, inner: Inner, depth: int) -> tuple[list[Section], list[str]]:
    """The attachment's text under its name, or the name alone."""
    heading = f"Attachment: {name}"
    line = Section(f"{heading}\n\n", headings=(heading,))
    try:
        if part.get_content_type() == "message/rfc822":
            children = part.get_payload()
            if depth >= _DEEPEST or not isinstance(children, list) or not children:
                return [line], []
            child = children[0]
            document, doubts = _message(
                child.as_bytes() if isinstance(child, Message) else b"", inner, depth + 1
            )
            documents, warnings = [document], list(doubts)
        else:
            payload = part.get_payload(decode=True)
            reading = inner(payload if isinstance(payload, bytes) else b"", name)
            documents, warnings = list(reading.documents), [*reading.errors, *reading.warnings]
    except (UnsupportedFormat, NoText):
        return [line], []
    except (Unreadable, LookupError, ValueError) as error:
        return [line], [f"attachment '{name}': {error}"]
    sections = [line]
    for document in documents:
        for section in document.sections:
            sections.append(Section(section.text, None, (heading, *section.headings), section.lead))
        sections.append(Section("\n", headings=(heading,)))
    return sections, [f"attachment '{name}': {warning}" for warning in warnings]


def _header(message: Message, name: str) -> str:
    return _header_text(str(message.get(name, "") or ""))


def _header_text(value: str) -> str:
    """RFC 2047 words decoded, on one line."""
    pieces = []
    try:
        for piece, charset in decode_header(value):
            if isinstance(piece, bytes):
                try:
                    pieces.append(piece.decode(charset or "utf-8", errors="replace"))
                except LookupError:
                    pieces.append(piece.decode("latin-1"))
            else:
                pieces.append(piece)
    except (email.errors.HeaderParseError, ValueError):
        pieces = [value]
    return " ".join(clean("".join(pieces)).split())
