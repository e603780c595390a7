"""The rungs that change no weight: zero-shot, worked examples, calibrated, by the base model's label scores.

The prompts are laid out by the same code that serves; the scores come from plain transformers, which a card
runs in large batches. Reviews can be longer than a context: question and examples are cut to a stated size.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from prompts.calibration import calibrated, mean_probabilities
from prompts.demos import Picked, Pool
from prompts.layout import lay_out
from prompts.listing import parse_lines
from prompts.parsing import parse
from prompts.records import Message, Template
from training.batching import batches
from training.causal import causal_model
from training.data import places_drawn
from training.errors import DataRefused
from training.finetuning import labels_of, scored
from training.inputs import FORWARD_TOKENS, casting
from training.memory import peak_bytes, reset_peak
from training.records import Cost, Run, Split

QUESTION_TOKENS, DEMO_TOKENS = 256, 96
VALID_ITEMS = 512  # scored to compare prompts; they are not trained on
CALIBRATE_WITH = 256  # of them, whose mean the batch calibration divides by
_WORDING = """
format = 1
name = "ladder"
version = 1
task = "classify"
about = "The plain pattern of text and label."
[parts]
system = ""
demo_input = "Text: {{{{ demo.input }}}}"
demo_output = "Label: {{{{ demo.label.text }}}}"
question = "Text: {{{{ question }}}}\\nLabel:"
[layout]
format = "plain"
[labels]
score = "first_token"
set = [{labels}]
[budget]
reserve = 4
[[examples]]
question = "A text."
demos = []
"""
Table = NDArray[np.float64]


class LabelScorer:
    """Scores labels with a causal model: ln p(first token) where first tokens differ, else of all tokens."""

    def __init__(self, folder: Path, device: str) -> None:
        """Raises BaseRefused when the folder holds no causal language model."""
        model, self._tokenizer = causal_model(folder)
        self._device = torch.device(device)
        self._model: Any = model.to(self._device).eval()
        self.context_tokens = int(model.config.max_position_embeddings)
        self.parameters = sum(one.numel() for one in model.parameters())

    def text(self, messages: Sequence[Message], form: str) -> str:
        if form == "plain":
            return "".join(message.text for message in messages)
        turns = [{"role": message.role, "content": message.text} for message in messages]
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def ids(self, texts: Sequence[str], form: str) -> list[list[int]]:
        """Token ids of whole prompts; the chat template has put the special tokens in already."""
        found = self._tokenizer(list(texts), add_special_tokens=form == "plain")["input_ids"]
        return [list(row) for row in found]

    def cut(self, texts: Sequence[str], tokens: int) -> list[str]:
        """Every text with at most so many tokens."""
        rows = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [
            text if len(ids) <= tokens else str(self._tokenizer.decode(ids[:tokens]))
            for text, ids in zip(texts, rows, strict=True)
        ]

    def label_ids(self, template: Template) -> list[list[int]]:
        assert template.labels is not None
        before = " " if template.layout.format == "plain" else ""
        return [
            list(self._tokenizer.encode(before + one.text, add_special_tokens=False))
            for one in template.labels.labels
        ]

    def score(self, rows: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> Table:
        """Shape (rows, labels), natural logarithms."""
        firsts = [label[0] for label in labels]
        if len(set(firsts)) == len(firsts):
            return self._next(rows, firsts)
        table = np.zeros((len(rows), len(labels)))
        for number, label in enumerate(labels):
            for at, token in enumerate(label):
                table[:, number] += self._next([[*row, *label[:at]] for row in rows], [token])[:, 0]
        return table

    def _next(self, rows: Sequence[Sequence[int]], wanted: Sequence[int]) -> Table:
        """ln p of the wanted tokens after each row, shape (rows, wanted)."""
        table = np.empty((len(rows), len(wanted)))
        with torch.no_grad():
            for batch in batches(rows, FORWARD_TOKENS[self._device.type], 0):
                ids, mask = batch.ids.to(self._device), batch.mask.to(self._device)
                with casting(self._device):
                    states = self._model.model(input_ids=ids, attention_mask=mask).last_hidden_state
                    last = states[torch.arange(len(ids), device=self._device), mask.sum(1) - 1]
                    logits = self._model.lm_head(last)
                logprobs = logits.float().log_softmax(-1)[:, list(wanted)]
                table[list(batch.at)] = logprobs.cpu().numpy()
        return table


class Shots(NamedTuple):
    """How many examples are shown, picked how."""

    strategy: Literal["none", "random", "nearest"]
    shown: int = 0


class Rows(NamedTuple):
    """Unit rows of the three parts, for `nearest`."""

    train: NDArray[np.float32]
    valid: NDArray[np.float32]
    test: NDArray[np.float32]


class Asked(NamedTuple):
    """The texts of a split as the prompts show them, cut once for all rungs."""

    split: Split
    pool: Pool
    valid: tuple[str, ...]
    test: tuple[str, ...]
    rows: Rows | None
    truncated: float  # share of the test texts that were cut


def asked(scorer: LabelScorer, split: Split, rows: Rows | None) -> Asked:
    examples = scorer.cut([one.text for one in split.train], DEMO_TOKENS)
    lines = [
        json.dumps({"id": f"{at:06d}", "input": text, "output": name, "label": name})
        for at, text in enumerate(examples)
        for name in [split.labels[split.train[at].label]]
    ]
    listing = parse_lines(lines, split.name)
    vectors = None if rows is None else rows.train[[int(demo.id) for demo in listing.demos]]
    some = places_drawn(split.valid, VALID_ITEMS)  # drawn: the head of a file sorted by label is one label
    split = replace(split, valid=tuple(split.valid[at] for at in some))
    rows = None if rows is None else rows._replace(valid=rows.valid[some])
    valid = scorer.cut([one.text for one in split.valid], QUESTION_TOKENS)
    test = scorer.cut([one.text for one in split.test], QUESTION_TOKENS)
    changed = [short != one.text for short, one in zip(test, split.test, strict=True)]
    return Asked(
        split, Pool(listing, vectors=vectors), tuple(valid), tuple(test), rows, float(np.mean(changed))
    )


def template_for(split: Split, reference: str | None, folders: Sequence[Path] = ()) -> Template:
    """The named template, its labels in the split's order, or a plain one made of the split's label names.

    Raises DataRefused when the template's labels are not the split's.
    """
    if reference is None:
        labels = ", ".join(f"{{ id = {json.dumps(one)}, text = {json.dumps(one)} }}" for one in split.labels)
        return parse(_WORDING.format(labels=labels).encode(), "ladder")
    from prompts.templates import Library

    template = Library.load(*folders).get(reference)
    found = [one.id for one in template.labels.labels] if template.labels else []
    if sorted(found) != sorted(split.labels):
        raise DataRefused(
            f"template {template.reference} tells apart {', '.join(found) or 'nothing'}; "
            f"{split.name} has {', '.join(split.labels)}"
        )
    return template


def prompted(
    scorer: LabelScorer, given: Asked, template: Template, shots: Shots, *, rung: str, seed: int
) -> tuple[Run, Run]:
    """One draw of a prompt rung, as the model scores it and after batch calibration (arXiv 2309.17249)."""
    reset_peak()
    labels, order = scorer.label_ids(template), _order(template, given.split)
    rows = given.rows
    valid_ids = _prompts(scorer, given.pool, template, given.valid, shots, seed, rows and rows.valid)
    valid = scorer.score(valid_ids, labels)[:, order]
    test_ids = _prompts(scorer, given.pool, template, given.test, shots, seed, rows and rows.test)
    began = time.perf_counter()
    test = scorer.score(test_ids, labels)[:, order]
    seconds = time.perf_counter() - began
    sample = given.test[:64]
    bare = _prompts(scorer, given.pool, template, sample, Shots("none"), seed, None)
    added = np.mean([len(row) for row in test_ids[:64]]) - np.mean([len(row) for row in bare])
    cost = Cost(
        peak_bytes=peak_bytes(),
        total=scorer.parameters,
        serve_seconds=seconds / len(given.test),
        added_tokens=float(added),
        truncated=given.truncated,
    )
    truth = np.array(labels_of(given.split.valid))
    mean = mean_probabilities(valid[:CALIBRATE_WITH])
    settings = {"template": template.reference, "shots": shots.shown, "strategy": shots.strategy}

    def run(name: str, valid: Table, test: Table, calibration: str) -> Run:
        return scored(
            given.split,
            [int(one) for one in test.argmax(1)],
            rung=name,
            seed=seed,
            valid=float(np.mean(valid.argmax(1) == truth)),
            cost=cost,
            settings=settings | {"calibration": calibration},
        )

    return (
        run(rung, valid, test, "none"),
        run(f"{rung}-calibrated", calibrated(valid, mean), calibrated(test, mean), "batch"),
    )


def _prompts(
    scorer: LabelScorer,
    pool: Pool,
    template: Template,
    texts: Sequence[str],
    shots: Shots,
    seed: int,
    rows: NDArray[np.float32] | None,
) -> list[list[int]]:
    form = template.layout.format
    room = scorer.context_tokens - 8

    def count(messages: Sequence[Message], /) -> int:
        """A token is a byte at least, so a prompt of few bytes need not be tokenised to know that it fits."""
        text = scorer.text(messages, form)
        size = len(text.encode())
        return size if size <= room else len(scorer.ids([text], form)[0])

    found = []
    for at, text in enumerate(texts):
        picked = Picked((), ())
        if shots.strategy == "random":
            picked = pool.pick(text, shots.shown, strategy="random", seed=seed)
        elif shots.strategy == "nearest":
            picked = pool.pick(text, shots.shown, vector=None if rows is None else rows[at])
        prompt = lay_out(template, question=text, demos=picked.demos, static_demos=(), room=room, count=count)
        found.append(scorer.text(prompt.messages, form))
    return scorer.ids(found, form)


def _order(template: Template, split: Split) -> list[int]:
    """The template's columns in the split's order of labels."""
    assert template.labels is not None
    at = {one.id: number for number, one in enumerate(template.labels.labels)}
    return [at[label] for label in split.labels]
