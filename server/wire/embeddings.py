"""`POST /v1/embeddings`: body → EmbeddingAsk, vectors → body."""

import binascii
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Discriminator, Field, Tag

from server.errors import UnsupportedParameter
from server.wire.fields import EMBEDDINGS
from server.wire.reading import Wire, fault, read_body

InputType = Literal["query", "passage"]
Format = Literal["float", "base64"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingAsk:
    """What is to be embedded and how the vectors are to be written."""

    model: str
    inputs: tuple[str, ...]
    input_type: InputType = "passage"  # for models that put another prefix before each
    format: Format = "float"
    ignored: tuple[str, ...] = ()


def _no_token_ids(value: Any) -> Any:
    if isinstance(value, list) and any(not isinstance(item, str) for item in value):
        raise fault(
            "Token ids are not accepted, because another tokenizer's are noise to this model; send strings "
            "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))",
            kind="unsupported",
        )
    return value


Text = Annotated[str, Field(min_length=1)]
Input = Annotated[
    Annotated[Text, Tag("<text>")]
    | Annotated[list[Text], Field(min_length=1, max_length=2_048), Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<text>"),
]


class EmbeddingExtension(Wire):
    input_type: InputType = "passage"


class EmbeddingRequest(Wire):
    """openai-surface §4."""

    input: Annotated[Input, BeforeValidator(_no_token_ids)]
    model: Annotated[str, Field(min_length=1, max_length=256)]
    encoding_format: Format = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
    fewshot: EmbeddingExtension = EmbeddingExtension()


def read_embedding(body: bytes, *, dimension: int, unknown_fields: str = "refuse") -> EmbeddingAsk:
    """What the caller asks for. `dimension` is the model's; another is refused, for vectors are never cut.

    Left to those who know the model: its name, and the length of each input.
    Raises InvalidValue, MissingParameter or UnsupportedParameter with `param`.
    """
    asked, ignored = read_body(body, EmbeddingRequest, EMBEDDINGS, unknown_fields)
    if asked.dimensions is not None and asked.dimensions != dimension:
        raise UnsupportedParameter(
            f"This model's vectors have {dimension} dimensions and are not cut; leave 'dimensions' out.",
            param="dimensions",
        )
    return EmbeddingAsk(
        model=asked.model,
        inputs=(asked.input,) if isinstance(asked.input, str) else tuple(asked.input),
        input_type=asked.fewshot.input_type,
        format=asked.encoding_format,
        ignored=ignored,
    )


def embedding_body(ask: EmbeddingAsk, vectors: NDArray[np.float32], *, tokens: int) -> dict[str, Any]:
    """The answer; `vectors` has one unit row an input, in order. base64 is of little-endian float32."""
    return {
        "object": "list",
        "model": ask.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": _written(vector, ask.format)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _written(vector: NDArray[np.float32], form: Format) -> str | list[float]:
    if form == "float":
        numbers: list[float] = vector.tolist()
        return numbers
    return binascii.b2a_base64(vector.astype("<f4").tobytes(), newline=False).decode("ascii")
