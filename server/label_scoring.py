"""How likely each label is as the reply to a prompt, read off the served model's next-token probabilities."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prompts.records import Message, Template
from server.errors import InvalidValue
from server.seams import Tokenizer

Way = Literal["first_token", "sequence"]
Ids = tuple[int, ...]
NextTokens = Callable[[Ids, Sequence[int]], Awaitable[list[float]]]
"""(ids, candidates) → ln p(candidate | ids) of each."""

MOST_CANDIDATES = 128  # that the engine tells of one position


@dataclass(frozen=True, slots=True)
class LabelTokens:
    """The labels of a template as token ids, in its order, and the way they are told apart."""

    ids: tuple[Ids, ...]
    way: Way

    @property
    def steps(self) -> int:
        """Positions that the engine is asked about, a prompt."""
        return len(branches(self.ids)) if self.way == "sequence" else 1


def label_tokens(template: Template, tokenizer: Tokenizer, way: Way | None) -> LabelTokens:
    """The labels as the model would write them behind a prompt of the template.

    None takes the template's own way, `sequence` for `generate`, which has no probabilities. Where a label
    begins another, each ends with the token that ends a turn. Raises InvalidValue when two labels cannot be
    told apart.
    """
    assert template.labels is not None  # the caller has refused templates without labels
    plain = template.layout.format == "plain"
    texts = [label.text.strip() for label in template.labels.labels]
    anchor, gap = (":", " ") if plain else ("\n", "")  # "Sentiment:" is followed by " positive"
    ids = [_behind(anchor, gap + text, tokenizer) for text in texts]
    chosen: Way = way or ("first_token" if template.labels.score == "first_token" else "sequence")
    if any(mine != other and other[: len(mine)] == mine for mine in ids for other in ids):
        end = _turn_end(tokenizer)
        ids = [(*one, *end) for one in ids]
    if len(set(ids)) < len(ids):
        raise InvalidValue(f"two labels of {template.reference} are the same to this model", param="template")
    firsts = {one[0] for one in ids}
    if chosen == "first_token" and len(firsts) < len(ids):
        raise InvalidValue(
            f"labels of {template.reference} begin with the same token; ask for scoring `sequence`",
            param="scoring",
        )
    if max(len(firsts), *map(len, branches(ids).values())) > MOST_CANDIDATES:
        raise InvalidValue(
            f"more than {MOST_CANDIDATES} labels part at one token: use fewer", param="template"
        )
    return LabelTokens(tuple(ids), chosen)


async def score_labels(prompt: Ids, labels: LabelTokens, next_tokens: NextTokens) -> list[float]:
    """ln p of each label behind the prompt: of its first token, or of all of its tokens.

    `sequence` walks the tree of the labels' tokens, one decoding step a branch. Asking for the prompt's own
    log probabilities would be one step a label, and the engine then reads no prefix cache.
    """
    if labels.way == "first_token":
        return await next_tokens(prompt, [one[0] for one in labels.ids])
    places = branches(labels.ids)
    found = await asyncio.gather(
        *(next_tokens((*prompt, *before), candidates) for before, candidates in places.items())
    )
    known = {
        (*before, token): logprob
        for (before, candidates), row in zip(places.items(), found, strict=True)
        for token, logprob in zip(candidates, row, strict=True)
    }
    return [sum(known[one[: at + 1]] for at in range(len(one))) for one in labels.ids]


def branches(labels: Sequence[Ids]) -> Mapping[Ids, list[int]]:
    """What stands before each position → the tokens that some label has there, in the labels' order."""
    found: dict[Ids, list[int]] = {}
    for one in labels:
        for at, token in enumerate(one):
            tokens = found.setdefault(one[:at], [])
            if token not in tokens:
                tokens.append(token)
    return found


def _behind(anchor: str, text: str, tokenizer: Tokenizer) -> Ids:
    """Ids of the text as they stand behind other text: some tokenizers write a first word in another way."""
    before, whole = tokenizer.encode(anchor), tokenizer.encode(anchor + text)
    if whole[: len(before)] != before or len(whole) == len(before):
        raise InvalidValue(f"this model cannot write the label {text!r} behind a prompt", param="template")
    return whole[len(before) :]


def _turn_end(tokenizer: Tokenizer) -> Ids:
    """The token that ends a turn: the last special one of a conversation before the generation prompt."""
    said, asked = (Message("user", "x"), Message("assistant", "x")), (Message("user", "x"),)
    whole, start = tokenizer.chat(said), tokenizer.chat(asked)
    for token in whole[len(start) :]:
        if token in tokenizer.special_ids:
            return (token,)
    raise InvalidValue(
        "one label begins another, and this model has no token that ends a turn", param="template"
    )
