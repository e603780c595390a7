"""How a source is named and reached: for annotations, and as a Markdown list for those who show none."""

import re
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from server.sources import SourceUse

URL_CHARACTERS = "%/:=&?~#+!$,;'@*-._"  # everything else would end a Markdown link, or the line


def source_url(source: SourceUse, public_url: str) -> str:
    """The file's own web address (attribute `url`), else where this server gives the file out."""
    own = source.attributes.get("url")
    if isinstance(own, str) and urlsplit(own).scheme in ("http", "https"):
        return own
    page = f"#page={source.page_start}" if source.page_start else ""
    return f"{public_url.rstrip('/')}/v1/files/{source.file_id}/content{page}"


def source_title(source: SourceUse) -> str:
    return f"{source.filename}, p. {source.page_start}" if source.page_start else source.filename


def source_list(sources: Sequence[SourceUse], public_url: str) -> str:
    """`- [1] [policy.md, p. 3](https://…)`, a line each, after a blank line; "" without sources.

    Names and addresses come from documents, so what Markdown would act on is escaped.
    """
    lines = [
        rf"- \[{source.n}\] [{_plain(source_title(source))}]"
        f"({quote(source_url(source, public_url), safe=URL_CHARACTERS)})"
        for source in sources
    ]
    return "\n\n" + "\n".join(lines) if lines else ""


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]()<>#!|~&])", r"\\\1", " ".join(text.split()))
