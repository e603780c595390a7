"""Citations of generated answers, checked against the documents themselves.

    python -m bench citations --data PACKS --stores FOLDER --answers 300 a-clapnq a-covidqa

Small models cite little, so `--human` cites for them: the human answers of qa.jsonl, with a marker of the
first hit behind every sentence, meet the same sources and the same checks, without a model.

Each pack's corpus goes through the real ingest, its questions (dev) through the server's own pipeline with
the real model. Nothing of the citing code is asked whether it was right: markers are read again from the
answer, numbers from the prompt, and spans from the document's text in the catalogue.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import click
import sqlalchemy as sa

from bench.retrieval import fill, rows
from indexer.catalogue import Catalogue
from indexer.embedding import open_embedder
from indexer.schema import chunks, documents
from indexer.seams import Embedder
from indexer.search import Searcher
from prompts.records import Message
from server.citing import Citer
from server.ids import new_id
from server.metrics import Metrics
from server.pipeline import Parts, answer, prepare
from server.records import Reply, Search, Turn, Wishes
from server.retrieval import as_sources, as_uses
from server.settings import load_settings
from server.sources import Citation
from server.wiring import open_parts

CONTAINED = 0.98  # of located spans must hold the cited words
TOP = 4
AT_ONCE = 4
TURN = 8  # questions of a pack before it is the next one's turn


@dataclass(slots=True)
class Counts:
    """What was found in the answers of one pack."""

    answers: int = 0
    citations: int = 0
    dropped: int = 0
    foreign: int = 0  # shown markers or citations of what was not in the prompt
    spans: int = 0
    contained: int = 0
    sentences: int = 0
    unsupported: int = 0


class Answered(NamedTuple):
    """One answer and what it was given."""

    text: str
    citations: Sequence[Citation]
    dropped: int
    unsupported: int
    prompt: str  # the passages as the model saw them
    offered: frozenset[int]  # their numbers


@click.command()
@click.argument("packs", nargs=-1, required=True)
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True), envvar="FEWSHOT_TEST_DATA"
)
@click.option("--stores", required=True, type=click.Path(path_type=Path))
@click.option("--answers", default=300, show_default=True, help="In all, shared out among the packs.")
@click.option("--tokens", default=96, show_default=True, help="Longest answer.")
@click.option("--human", is_flag=True, help="Human answers, cited by us, instead of the model's.")
@click.option("--show", is_flag=True, help="Print the spans that do not hold the cited words.")
def main(
    packs: tuple[str, ...], data: Path, stores: Path, answers: int, tokens: int, human: bool, show: bool
) -> None:
    """Print a table; exit 1 when an answer cites what was not in its prompt, or too few spans hold up."""
    settings = load_settings(
        environ={}, overrides={"paths": {"data": str(stores)}, "server": {"deadline_seconds": 3600}}
    )
    embedder = open_embedder(settings.retrieval.embedder, settings.paths.cache / "models")
    for pack in packs:
        fill(data / pack, pack, stores, embedder)
    each = answers // len(packs)
    if human:
        found = _measure_human({pack: data / pack for pack in packs}, stores, embedder, each, show)
    else:
        questions = {pack: _questions(data / pack, each) for pack in packs}
        found = asyncio.run(_measure(questions, settings, stores, tokens, show))
    print(_line(found))
    spans = sum(count.spans for count in found.values())
    contained = sum(count.contained for count in found.values())
    foreign = sum(count.foreign for count in found.values())
    share = contained / spans if spans else 0.0
    print(
        f"{foreign} citations of sources not in the prompt; {share:.3f} of {spans} spans hold the cited words"
    )
    raise SystemExit(1 if foreign or share < CONTAINED else 0)


def _questions(pack: Path, most: int) -> list[str]:
    return [row["text"] for row in islice(rows(pack / "dev" / "queries.jsonl"), most)]


def _measure_human(
    packs: Mapping[str, Path], stores: Path, embedder: Embedder, most: int, show: bool
) -> dict[str, Counts]:
    catalogue, searcher = Catalogue(stores), Searcher(stores, embedder)
    found = {pack: Counts() for pack in packs}
    try:
        for pack, folder in packs.items():
            told = (row for row in rows(folder / "dev" / "qa.jsonl") if row["answers"])
            for row in islice(told, most):
                hits = searcher.search(row["question"], [pack], top=TOP)
                sources = as_sources(hits.hits)
                citer = Citer(as_uses(hits, sources))
                text = re.sub(r"(?<=[^.!?])(?=[.!?](\s|$))", " [1]", row["answers"][0])
                text = citer.feed(text if "[1]" in text else f"{text} [1]") + citer.finish()
                verified = citer.verify(every_sentence=True)
                check(
                    Answered(
                        text=text,
                        citations=verified.citations,
                        dropped=citer.dropped,
                        unsupported=len(verified.unsupported),
                        prompt="\n".join(source.text for source in sources),
                        offered=frozenset(source.number for source in sources),
                    ),
                    catalogue,
                    found[pack],
                    show,
                )
    finally:
        searcher.close()
        catalogue.close()
    return found


async def _measure(
    questions: Mapping[str, Sequence[str]], settings: Any, stores: Path, tokens: int, show: bool
) -> dict[str, Counts]:
    catalogue = Catalogue(stores)
    found = {pack: Counts() for pack in questions}
    try:
        async with open_parts(settings, Metrics()) as opened:
            parts = opened.parts
            await parts.engine.up.wait()
            print(parts.engine.failure or "the engine is up", file=sys.stderr)
            for pack, texts in _in_turns(questions):  # a run that is stopped early has some of every pack
                async for reply in _replies(pack, texts, parts, tokens):
                    check(_answered(reply), catalogue, found[pack], show)
                print(_line(found), file=sys.stderr, flush=True)
    finally:
        catalogue.close()
    return found


def _in_turns(questions: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Sequence[str]]]:
    """Some questions of each pack, then some more."""
    for at in range(0, max(map(len, questions.values())), TURN):
        for pack, texts in questions.items():
            if some := texts[at : at + TURN]:
                yield pack, some


def _line(found: Mapping[str, Counts]) -> str:
    """What was found so far, as JSON."""
    return json.dumps(
        {pack: {name: getattr(count, name) for name in Counts.__slots__} for pack, count in found.items()}
    )


async def _replies(pack: str, texts: Sequence[str], parts: Parts, tokens: int) -> AsyncIterator[Reply]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(text: str) -> Reply:
        async with gate:
            turn = Turn(
                id=new_id("chatcmpl-"),
                created=0,
                tenant="bench",
                model=parts.engine.decoder.profile.name,
                messages=(Message("user", text),),
                max_tokens=tokens,
                search=Search(stores=(pack,), top=TOP),
                wishes=Wishes(unsupported=True, when_empty="answer"),
            )
            ticket = await parts.admission.enter(weight=1, deadline_seconds=None)
            answering = answer(await prepare(turn, ticket, parts), ticket, parts)
            async with aclosing(answering.pieces()) as pieces:
                async for _ in pieces:
                    pass
            return answering.reply()

    for done in asyncio.as_completed([one(text) for text in texts]):
        yield await done


def _answered(reply: Reply) -> Answered:
    (choice,) = reply.choices
    prompt = reply.plan.messages[-1].text  # the passages stand in the last message, worked examples before it
    numbers = re.findall(r"^<passage \[(\d+)\]>", prompt, re.MULTILINE)
    return Answered(
        text=choice.text,
        citations=choice.citations,
        dropped=reply.citations_dropped,
        unsupported=len(choice.unsupported),
        prompt=prompt,
        offered=frozenset(map(int, numbers)),
    )


def check(answered: Answered, catalogue: Catalogue, counts: Counts, show: bool = False) -> None:
    """Add one answer's figures."""
    text = answered.text
    shown = [int(n) for marker in re.findall(r"\[([\d,\s]+)\]", text) for n in re.findall(r"\d+", marker)]
    counts.answers += 1
    counts.citations += len(answered.citations)
    counts.dropped += answered.dropped
    counts.foreign += sum(number not in answered.offered and number < 1000 for number in shown)
    counts.unsupported += answered.unsupported
    counts.sentences += len([part for part in re.split(r"(?<=[.!?])\s+", text) if part.strip()])
    for citation in answered.citations:
        document = _document(catalogue, citation.source.chunk_id)
        passage = document[citation.source.char_start : citation.source.char_end]
        counts.foreign += passage[:200] not in answered.prompt
        if citation.check == "span":
            counts.spans += 1
            held = _holds(text, citation, document)
            counts.contained += held
            if show and not held:
                sentence = text[citation.answer_start : citation.answer_end]
                print(
                    repr(sentence), repr(document[citation.char_start : citation.char_end]), citation.support
                )


def _holds(answer: str, citation: Citation, text: str) -> bool:
    """Whether the span, read from the document, holds as long a run of the sentence's words as the chunk."""
    sentence = _plain(re.sub(r"\[[\d, ]+(\]|$)", " ", answer[citation.answer_start : citation.answer_end]))
    chunk = _plain(text[citation.source.char_start : citation.source.char_end])
    span = _plain(text[citation.char_start : citation.char_end])
    return _longest_run(sentence, span) >= _longest_run(sentence, chunk)


def _longest_run(sentence: Sequence[str], text: Sequence[str]) -> int:
    return SequenceMatcher(None, sentence, text, autojunk=False).find_longest_match().size


def _plain(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _document(catalogue: Catalogue, chunk: str) -> str:
    """The extracted text that a chunk was cut from."""
    wanted = sa.select(documents.c.text).join(chunks, chunks.c.document_id == documents.c.id)
    with catalogue.engine.connect() as connection:
        return str(connection.execute(wanted.where(chunks.c.key == chunk)).scalar_one())


if __name__ == "__main__":
    main()
