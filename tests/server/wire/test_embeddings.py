"""Texts in, vectors out, in the very form asked for."""

import base64
import json
from typing import Any

import numpy as np
import orjson
import pytest

from server.errors import InvalidValue, UnsupportedParameter
from server.wire.embeddings import EmbeddingAsk, embedding_body, read_embedding


def read(**fields: Any) -> EmbeddingAsk:
    return read_embedding(orjson.dumps({"model": "e", "input": "a", **fields}), dimension=3)


def test_one_text_is_a_list_of_one():
    assert read() == EmbeddingAsk(model="e", inputs=("a",))
    assert read(input=["a", "b"], fewshot={"input_type": "query"}, user="u", dimensions=3) == EmbeddingAsk(
        model="e", inputs=("a", "b"), input_type="query"
    )


@pytest.mark.parametrize("tokens", [[1, 2], [[1, 2], [3]], ["a", 1]])
def test_token_ids_are_refused_with_the_way_out(tokens: list[Any]):
    with pytest.raises(UnsupportedParameter, match="check_embedding_ctx_length=False") as refusal:
        read(input=tokens)
    assert refusal.value.param == "input"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a"] * 2_049}, "input"),
        ({"input": None}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 2}, "dimensions"),
        ({"suffix": "x"}, "suffix"),
    ],
)
def test_a_refusal_names_the_place(fields: dict[str, Any], param: str):
    with pytest.raises(InvalidValue) as refusal:
        read(**fields)
    assert refusal.value.param == param


def test_base64_is_little_endian_float32_and_lists_are_the_same_numbers():
    vectors = np.array([[0.6, 0.8, 0.0], [0.0, -1.0, 0.0]], dtype=np.float32)
    listed = embedding_body(read(input=["a", "b"]), vectors, tokens=5)
    packed = embedding_body(read(input=["a", "b"], encoding_format="base64"), vectors, tokens=5)
    assert json.loads(orjson.dumps(listed))["data"][1] == {
        "object": "embedding",
        "index": 1,
        "embedding": [0.0, -1.0, 0.0],
    }
    unpacked = [np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in packed["data"]]
    assert np.array_equal(unpacked, vectors)
    assert [row["embedding"] for row in listed["data"]] == vectors.tolist()
    assert listed["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
