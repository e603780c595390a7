"""`/v1/files`: the upload form, and the file object."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from indexer.uploads import Upload
from server.errors import InvalidValue
from server.wire.fields import FILES
from server.wire.reading import Wire, read_body

PURPOSES = ("assistants", "user_data")
LONGEST_NAME = 255  # characters
_NESTED = re.compile(r"expires_after\[(\w+)\]")


class FileExpiry(Wire):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000)]


class FileForm(Wire):
    """openai-surface §8, without the bytes."""

    purpose: Literal["assistants", "user_data"]
    expires_after: FileExpiry | None = None


def read_form(fields: Mapping[str, str]) -> FileForm:
    """The form's fields but for the file. Raises InvalidValue, MissingParameter, UnsupportedParameter."""
    value: dict[str, Any] = {}
    for name, text in fields.items():
        nested = _NESTED.fullmatch(name)
        if nested is None:
            value[name] = text
            continue
        number = nested[1] == "seconds" and re.fullmatch(r"[0-9]{1,9}", text)
        value.setdefault("expires_after", {})
        if not isinstance(value["expires_after"], dict):
            raise InvalidValue("send expires_after[anchor] and expires_after[seconds]", param="expires_after")
        value["expires_after"][nested[1]] = int(text) if number else text
    return read_body(orjson.dumps(value), FileForm, FILES)[0]


def clean_name(name: str | None) -> str:
    """The name without folders and control characters; it is shown, never opened."""
    last = re.split(r"[/\\]", name or "")[-1]
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "", last).strip()[:LONGEST_NAME] or "file"


def file_object(upload: Upload) -> dict[str, Any]:
    """`processed` at once: the bytes are all there is to do for a file by itself."""
    return {
        "id": upload.id,
        "object": "file",
        "bytes": upload.size_bytes,
        "created_at": upload.created_at,
        "expires_at": upload.expires_at,
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": "processed",
        "status_details": None,
    }
