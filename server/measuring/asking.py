"""Items → what the server said of them, by its own HTTP interface."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from prompts.calibrator import Scored
from server.measuring.arms import Arm
from server.measuring.items import Item

BATCH = 32  # texts of one request for labels
Tell = Callable[[int], object]  # called with the number of items that are done


class AskingFailed(Exception):
    """The server refused an arm as a whole; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What became of one item."""

    text: str = ""
    label: str | None = None
    probabilities: tuple[float, ...] = ()  # in the order of the arm's labels
    logprobs: tuple[float, ...] = ()
    refused: bool = False
    failed: str = ""  # the server's message when there was no answer
    cited: tuple[frozenset[str], ...] = ()  # for each citation, the names of its source
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What became of an arm's items, in their order."""

    said: tuple[Said, ...]
    seconds: float  # from the first request to the last answer
    of: Scored | None = None  # labels: what the scores depend on
    template: str | None = None


async def ask_labels(client: httpx.AsyncClient, arm: Arm, items: Sequence[Item], tell: Tell) -> Heard:
    """Raises AskingFailed when the first batch is refused; later failures are the items' own."""
    asked = {**arm.wishes}
    if asked.get("calibrate") == "batch":
        asked["calibrate"] = "none"  # the mean is then over all items, not over one request's
    said: list[Said] = []
    of: Scored | None = None
    template = None
    began = time.perf_counter()
    for at in range(0, len(items), BATCH):
        some = items[at : at + BATCH]
        body = {**asked, "input": [item.question for item in some]}
        start = time.perf_counter()
        answer = await client.post("/v1/classify", json=body)
        if answer.status_code != 200:
            if of is None:
                raise AskingFailed(f"arm {arm.name!r}: {message_of(answer)}")
            said += [Said(failed=message_of(answer))] * len(some)
            continue
        labelled = answer.json()
        of = _scored(labelled["calibration"]["of"])
        template = of.template
        tokens = labelled["usage"]["prompt_tokens"] / len(some)
        seconds = (time.perf_counter() - start) / len(some)
        for one in labelled["data"]:
            said.append(
                Said(
                    text=one["text"],
                    label=one["label"],
                    probabilities=tuple(one["probabilities"].values()),
                    logprobs=tuple(one["logprobs"].values()),
                    refused=one["label"] is None,
                    prompt_tokens=round(tokens),
                    seconds=seconds,
                )
            )
        tell(len(said))
    return Heard(said=tuple(said), seconds=time.perf_counter() - began, of=of, template=template)


async def ask_answers(
    client: httpx.AsyncClient, arm: Arm, items: Sequence[Item], tell: Tell, at_once: int
) -> Heard:
    """Raises AskingFailed when the first item is refused; later failures are the items' own."""
    places, done = asyncio.Semaphore(at_once), 0

    async def one(item: Item) -> Said:
        nonlocal done
        async with places:
            start = time.perf_counter()
            answer = await client.post("/v1/chat/completions", json=chat_body(arm, item))
            done += 1
            tell(done)
            return _said(answer, time.perf_counter() - start)

    began = time.perf_counter()
    first = await one(items[0])
    if first.failed:
        raise AskingFailed(f"arm {arm.name!r}: {first.failed}")
    rest = await asyncio.gather(*map(one, items[1:]))
    return Heard(
        said=(first, *rest), seconds=time.perf_counter() - began, template=arm.wishes.get("template")
    )


def chat_body(arm: Arm, item: Item) -> dict[str, Any]:
    """The request of one item: greedy unless the arm says otherwise, so that a run can be run again."""
    wishes = dict(arm.wishes)
    own = {name: wishes.pop(name) for name in ("template", "demos", "when_empty") if name in wishes}
    stores, top = wishes.pop("stores", None), wishes.pop("top", None)
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": item.question}],
        "temperature": 0.0,
        "seed": 7,
        **wishes,
    }
    if stores:
        tool = {"type": "file_search", "vector_store_ids": stores}
        body["tools"] = [tool | ({"max_num_results": top} if top else {})]
    return {**body, "fewshot": own} if own else body


def message_of(answer: httpx.Response) -> str:
    """What the server says is wrong, in one line."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _said(answer: httpx.Response, seconds: float) -> Said:
    if answer.status_code != 200:
        return Said(failed=message_of(answer), seconds=seconds)
    body = answer.json()
    made_of, usage = body["fewshot"], body["usage"]
    sources = {source["n"]: source for source in made_of["sources"] if source["used"]}
    cited = tuple(
        frozenset(
            str(sources[one["n"]].get(name))
            for name in ("file_id", "filename", "external_id", "title", "chunk_id")
            if one["n"] in sources and sources[one["n"]].get(name)
        )
        for one in made_of["citations"]
    )
    return Said(
        text=body["choices"][0]["message"]["content"] or "",
        refused=made_of["grounding"] == "refused",
        cited=cited,
        prompt_tokens=usage["prompt_tokens"],
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
        completion_tokens=usage["completion_tokens"],
        seconds=seconds,
    )


def _scored(of: dict[str, Any]) -> Scored:
    return Scored(**{**of, "labels": tuple(of["labels"])})
