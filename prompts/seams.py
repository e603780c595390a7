"""What this room asks of models, and a stand-in that needs none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from prompts.records import Message

if TYPE_CHECKING:  # numpy stays out of the request path
    import numpy as np
    from numpy.typing import NDArray


class Count(Protocol):
    """Exact tokens of the messages after the model's chat template, generation prompt included."""

    def __call__(self, messages: Sequence[Message], /) -> int: ...

    def __hash__(self) -> int: ...  # counts are remembered by counter and text


class Embed(Protocol):
    """Texts to unit rows: shape (n, d), float32."""

    def __call__(self, texts: Sequence[str], /) -> NDArray[np.float32]: ...


class Score(Protocol):
    """Natural log probability of each label's text as the whole reply, in the order of `labels`.

    First-token scoring returns the log probability of each label's first token, which ranks alike when
    first tokens are distinct.
    """

    def __call__(self, messages: Sequence[Message], labels: Sequence[str], /) -> Sequence[float]: ...


MESSAGE_WORDS = 2  # stands for the role markers that a chat template puts around each message


def count_words(messages: Sequence[Message], /) -> int:
    """A `Count` without a model: words, plus the fixed cost of each message and of the generation prompt."""
    return MESSAGE_WORDS + sum(MESSAGE_WORDS + len(message.text.split()) for message in messages)
