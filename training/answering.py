"""Rungs that answer questions: worked examples in the prompt, or a trained model or adapter without them.

Prompts are laid out by the code that serves. Answers are decoded greedily by plain transformers and graded by
exact match and token F1, as SQuAD does it (`prompts.matching`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prompts.demos import Picked, Pool
from prompts.layout import lay_out
from prompts.listing import parse_lines
from prompts.matching import exact_match, token_f1
from prompts.parsing import parse
from prompts.records import Message, Template
from training.adapting import Adapter, adapted
from training.causal import answering_model
from training.dialogues import Encoded
from training.errors import DataRefused
from training.generation import Ids, greedy
from training.loop import Say, train
from training.memory import peak_bytes, reset_peak
from training.prompting import Rows, Shots
from training.records import Cost, Question, Questions, Run, Settings

ANSWER_TOKENS = 48  # of a generated answer, at most
_PARTS = {
    "chat": """
system = "Answer the question in as few words as possible, without a sentence around them."
demo_input = "{{ demo.input }}"
demo_output = "{{ demo.output }}"
question = "{{ question }}"
[layout]
demo_style = "turns"
""",
    "plain": """
system = ""
demo_input = "{{ demo.input }}"
demo_output = "Answer: {{ demo.output }}"
question = "{{ question }}\\nAnswer:"
[layout]
format = "plain"
""",
}


def template_of(form: str) -> Template:
    """The ladder's own wording: "chat" (examples as earlier turns) or "plain" (a pattern to go on with)."""
    head = f'format = 1\nname = "ladder-{form}"\nversion = 1\nabout = "A short answer."\n[parts]'
    tail = '[[examples]]\nquestion = "A question?"\ndemos = [{ input = "Another?", output = "An answer" }]\n'
    return parse(f"{head}{_PARTS[form]}{tail}".encode(), f"ladder-{form}")


@dataclass(frozen=True, slots=True)
class Asker:
    """What turns questions into token ids: a base's tokenizer, the split, the pool of its training part."""

    tokenizer: Any
    context_tokens: int
    split: Questions
    pool: Pool
    rows: Rows | None  # unit rows of the three parts, for `nearest`

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    def prompts(self, template: Template, part: str, shots: Shots, seed: int = 0) -> list[Ids]:
        """Token ids of one prompt a question of the part. Raises PromptError when one cannot be made."""
        questions: Sequence[Question] = getattr(self.split, part)
        vectors: NDArray[np.float32] | None = None if self.rows is None else getattr(self.rows, part)
        found = []
        for at, one in enumerate(questions):
            picked = Picked((), ())
            if shots.strategy == "random":
                picked = self.pool.pick(one.text, shots.shown, strategy="random", seed=seed)
            elif shots.strategy == "nearest":
                picked = self.pool.pick(
                    one.text, shots.shown, vector=None if vectors is None else vectors[at]
                )
            prompt = lay_out(
                template,
                question=one.text,
                demos=picked.demos,
                static_demos=(),
                room=self.context_tokens - ANSWER_TOKENS - 1,
                count=lambda messages: len(self._ids(messages, template)),
            )
            found.append(self._ids(prompt.messages, template))
        return found

    def _ids(self, messages: Sequence[Message], template: Template) -> Ids:
        if template.layout.format == "plain":
            return list(self.tokenizer("".join(message.text for message in messages))["input_ids"])
        turns = [{"role": message.role, "content": message.text} for message in messages]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answers(self, model: Any, rows: Sequence[Ids], template: Template) -> list[str]:
        """What the model says. A plain pattern would go on with the next question: its answer is one line."""
        ends = {int(self.tokenizer.eos_token_id)}
        found = greedy(model, rows, most=ANSWER_TOKENS, ends=ends, pad_id=self.pad_id)
        texts = [str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in found]
        if template.layout.format == "plain":
            return [text.partition("\n")[0] for text in texts]
        return texts


def pool_of(split: Questions, rows: Rows | None) -> Pool:
    """The training part as worked examples, the first of the right answers shown."""
    lines = [
        json.dumps({"id": f"{at:06d}", "input": one.text, "output": one.answers[0]})
        for at, one in enumerate(split.train)
    ]
    listing = parse_lines(lines, split.name)
    vectors = None if rows is None else rows.train[[int(demo.id) for demo in listing.demos]]
    return Pool(listing, vectors=vectors)


def prompted(model: Any, asker: Asker, template: Template, shots: Shots, *, rung: str, seed: int) -> Run:
    """One draw of worked examples, or none, before every question."""
    reset_peak()
    valid = asker.answers(model, asker.prompts(template, "valid", shots, seed), template)
    rows = asker.prompts(template, "test", shots, seed)
    began = time.perf_counter()
    test = asker.answers(model, rows, template)
    seconds = time.perf_counter() - began
    bare = asker.prompts(template, "test", Shots("none"))
    cost = Cost(
        peak_bytes=peak_bytes(),
        total=sum(one.numel() for one in model.parameters()),
        serve_seconds=seconds / len(rows),
        added_tokens=float(np.mean([len(one) for one in rows]) - np.mean([len(one) for one in bare])),
    )
    settings = {"template": template.reference, "shots": shots.shown, "strategy": shots.strategy}
    return graded(asker.split, valid, test, rung=rung, seed=seed, cost=cost, settings=settings)


def tuned(
    folder: Path,
    device: str,
    asker: Asker,
    template: Template,
    method: str,
    settings: Settings,
    options: Mapping[str, int],
    *,
    rung: str,
    say: Say = lambda progress: None,
) -> Run:
    """Trained on the training part's prompts without examples, then asked in the same way.

    Stopped and kept by ln p of the validation answers. Rows longer than `settings.max_tokens` are left out.
    Raises BaseRefused, ExtraMissing, DataRefused.
    """
    reset_peak()
    model = _network(folder, device, method, options, settings.seed)
    virtual = options.get("tokens", 0)
    prompts = {part: asker.prompts(template, part, Shots("none")) for part in ("train", "valid", "test")}
    room = settings.max_tokens - virtual
    rows = _encoded(asker, template, asker.split.train, prompts["train"], room)
    checked = _encoded(asker, template, asker.split.valid, prompts["valid"], room)
    learner = Adapter(model, rows, checked)
    done = train(learner, settings, say=say)
    peak = peak_bytes()
    valid = asker.answers(model, prompts["valid"], template)
    began = time.perf_counter()
    test = asker.answers(model, prompts["test"], template)
    seconds = time.perf_counter() - began
    learned = list(learner.named().values())
    cost = Cost(
        train_seconds=done.seconds,
        peak_bytes=peak,
        trainable=sum(one.numel() for one in learned),
        total=sum(one.numel() for name, one in model.named_parameters() if not _added(name)),
        artefact_bytes=sum(one.numel() * one.element_size() for one in learned),
        serve_seconds=seconds / len(test),
        added_tokens=float(virtual),
        truncated=0.0,
    )
    said = {
        "method": method,
        "template": template.reference,
        "rows": len(rows),
        **options,
        **asdict(settings),
    }
    return graded(
        asker.split, valid, test, rung=rung, seed=settings.seed, cost=cost, settings=said, curve=done.curve
    )


def graded(
    split: Questions,
    valid: Sequence[str],
    test: Sequence[str],
    *,
    rung: str,
    seed: int,
    cost: Cost,
    settings: Mapping[str, object],
    curve: tuple[tuple[int, float, float], ...] = (),
) -> Run:
    """The run of these answers: token F1 an item, the mean exact match beside it."""
    scores = tuple(token_f1(said, one.answers) for said, one in zip(test, split.test, strict=True))
    exact = [exact_match(said, one.answers) for said, one in zip(test, split.test, strict=True)]
    return Run(
        rung=rung,
        seed=seed,
        valid=float(
            np.mean([token_f1(said, one.answers) for said, one in zip(valid, split.valid, strict=True)])
        ),
        test=scores,
        f1=float(np.mean(scores)),
        exact_match=float(np.mean(exact)),
        cost=cost,
        settings=settings,
        curve=curve,
    )


def base_of(folder: Path, device: str) -> tuple[Any, Any]:
    """(causal model in float32, tokenizer). Raises BaseRefused."""
    model, tokenizer = answering_model(folder)
    return model.to(device).eval().requires_grad_(False), tokenizer


def _network(folder: Path, device: str, method: str, options: Mapping[str, int], seed: int) -> Any:
    if method != "all":
        rank, tokens = options.get("rank", 1), options.get("tokens", 1)
        return adapted(folder, device, method, rank=rank, tokens=tokens, seed=seed)[0]
    model, _ = base_of(folder, device)
    return model.requires_grad_(True)


def _added(name: str) -> bool:
    return "lora_" in name or "prompt_encoder" in name


def _encoded(
    asker: Asker, template: Template, part: Sequence[Question], prompts: Sequence[Ids], room: int
) -> list[Encoded]:
    before = " " if template.layout.format == "plain" else ""
    found = []
    for one, prompt in zip(part, prompts, strict=True):
        answer = asker.tokenizer.encode(before + one.answers[0], add_special_tokens=False)
        answer = (*answer, int(asker.tokenizer.eos_token_id))
        if len(prompt) + len(answer) <= room:
            found.append(Encoded(tuple(prompt), (answer,)))
    if not found:
        raise DataRefused(f"no question of {asker.split.name} fits into {room} tokens: raise --max-tokens")
    return found
