"""What of a chunk is embedded and indexed: its document's title, and its text without link targets."""

import re

_TARGETS = re.compile(r"\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*\)|<https?://[^>\s]+>")


def readable(text: str) -> str:
    """The text without the targets of Markdown links: they cost tokens and mean nothing."""
    return _TARGETS.sub(lambda found: "]" if found[0].startswith("]") else "", text)


def indexed(title: str, text: str) -> str:
    """What the keyword leg sees of a chunk."""
    return f"{title}\n{readable(text)}" if title else readable(text)
