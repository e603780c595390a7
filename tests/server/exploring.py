"""Hooks for schemathesis: real ids and names in the place of many made-up ones, and one check more.

Made-up ids are 404s; half of them give way to things that are there, so that the answers behind are met too.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import schemathesis

KNOWN: dict[str, list[str]] = json.loads(Path(os.environ["FEWSHOT_EXPLORED"]).read_text())


def _swapped(name: str, value: Any) -> Any:
    """Always the same for the same value: a run with a seed can be run again."""
    known = KNOWN.get(name)
    if not known or not isinstance(value, str) or not 0 < len(value) <= 128:
        return value
    drawn = zlib.crc32(f"{name} {value}".encode("utf-8", "surrogatepass"))
    return known[drawn // 2 % len(known)] if drawn % 2 else value


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    return {name: _swapped(name, value) for name, value in (path_parameters or {}).items()}


@schemathesis.hook
def map_body(context, body):
    if not isinstance(body, dict):
        return body
    changed = {name: _swapped(name, value) for name, value in body.items()}
    if context.operation.path == "/v1/embeddings" and changed.get("model") in KNOWN["model"]:
        changed["model"] = KNOWN["embedder"][0]
    if isinstance(ids := changed.get("file_ids"), list):
        changed["file_ids"] = [_swapped("file_id", one) for one in ids]
    if isinstance(wishes := changed.get("fewshot"), dict) and isinstance(
        stores := wishes.get("vector_store_ids"), list
    ):
        changed["fewshot"] = {**wishes, "vector_store_ids": [_swapped("store_id", one) for one in stores]}
    return changed


@schemathesis.check
def names_its_request(ctx, response, case):
    if not response.headers.get("x-request-id", [""])[0].startswith("req_"):
        raise AssertionError("an answer without x-request-id")
