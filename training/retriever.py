"""Finetuning of the embedder on questions and the passages that answer them.

Loss: cross entropy of the right passage among all passages of the batch and one hard negative each, cosine
times 20 (multiple negatives ranking, Henderson et al. 2017, arXiv 1705.00652). Hard negatives are what the
base itself ranks high and nobody judged relevant, drawn from ranks 5 to 50: the first few are often right.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.backbone import Backbone, pooled
from training.batching import Lengths, padded
from training.data import read_objects
from training.errors import BaseRefused, DataRefused
from training.inputs import States, casting, prepared
from training.records import Settings

SCALE = 20.0
NEAR = (5, 50)  # ranks that hard negatives are drawn from
VALID_SHARE = 0.1
Rows = NDArray[np.float32]
Ids = Sequence[Sequence[int]]


class Judged(NamedTuple):
    """Questions of one part with the passages that answer them, by position in the corpus."""

    questions: tuple[str, ...]
    relevant: tuple[Mapping[int, float], ...]  # position → gain


class Judgements(NamedTuple):
    passages: tuple[str, ...]
    train: Judged
    valid: Judged
    test: Judged
    digest: str


def read_judgements(folder: Path, seed: int = 11) -> Judgements:
    """corpus.jsonl (there or above), train_queries.jsonl, train_qrels.tsv, queries.jsonl and qrels.tsv.

    A tenth of the training questions, by hash, is for validation. Raises DataRefused.
    """
    corpus = next(
        (one for one in (folder / "corpus.jsonl", folder.parent / "corpus.jsonl") if one.is_file()), None
    )
    if corpus is None:
        raise DataRefused(f"no corpus.jsonl in {folder} or above: lines of id, title, text")
    place: dict[str, int] = {}
    passages: list[str] = []
    for line, row in read_objects(corpus):
        if not isinstance(row.get("text"), str) or "id" not in row:
            raise DataRefused(f"{corpus}, line {line}: an id and a text are needed")
        place[str(row["id"])] = len(passages)
        passages.append(f"{row.get('title', '')}\n{row['text']}".strip())
    whole = _judged(folder / "train_queries.jsonl", folder / "train_qrels.tsv", place)
    for_valid = [
        hashlib.sha256(f"{seed}\0{one}".encode()).digest()[0] / 256 < VALID_SHARE for one in whole.questions
    ]
    if all(for_valid) or not any(for_valid):
        for_valid = [at % 10 == 0 for at in range(len(whole.questions))]
    digest = hashlib.sha256(json.dumps([passages, whole.questions], ensure_ascii=False).encode()).hexdigest()
    return Judgements(
        tuple(passages),
        _some(whole, [not one for one in for_valid]),
        _some(whole, for_valid),
        _judged(folder / "queries.jsonl", folder / "qrels.tsv", place),
        digest,
    )


class Retriever:
    """A `training.loop.Learner` of pairs; its score is minus the loss on the validation pairs."""

    def __init__(
        self, backbone: Backbone, passages: Ids, train: Pairs, valid: Pairs, settings: Settings
    ) -> None:
        self._backbone, self._passages = backbone, passages
        self._train, self._valid, self._settings = train, valid, settings
        backbone.model.requires_grad_(True)
        self.lengths: Lengths = np.array(
            [len(question) + len(passages[right]) + len(passages[wrong]) for question, right, wrong in train]
        )

    @property
    def device(self) -> torch.device:
        return self._backbone.device

    def named(self) -> Mapping[str, torch.nn.Parameter]:
        unused = ("pooler.",)  # of BERT: not on our path
        return {
            name: one for name, one in self._backbone.model.named_parameters() if not name.startswith(unused)
        }

    def groups(self, settings: Settings) -> list[dict[str, Any]]:
        learned = self.named().values()
        rate, decay = settings.learning_rate, settings.weight_decay
        return [
            {"params": [one for one in learned if one.ndim > 1], "lr": rate, "weight_decay": decay},
            {"params": [one for one in learned if one.ndim <= 1], "lr": rate, "weight_decay": 0.0},
        ]

    def loss(self, at: Sequence[int]) -> Tensor:
        return self._loss([self._train[one] for one in at])

    def score(self) -> float:
        size = self._settings.batch_texts
        with torch.no_grad():
            parts = [self._valid[at : at + size] for at in range(0, len(self._valid), size)]
            total = sum(float(self._loss(part)) * len(part) for part in parts)
        return -total / len(self._valid)

    def _loss(self, pairs: Pairs) -> Tensor:
        asked = self._unit([question for question, _, _ in pairs])
        right = self._unit([self._passages[one] for _, one, _ in pairs])
        wrong = self._unit([self._passages[one] for _, _, one in pairs])
        scores = SCALE * asked @ torch.cat([right, wrong]).T
        same = torch.tensor(
            [[mine == other for _, other, _ in pairs] for _, mine, _ in pairs], device=self.device
        )
        same.fill_diagonal_(False)  # another question's passage that answers this one too is no negative
        scores = scores.masked_fill(torch.cat([same, torch.zeros_like(same)], dim=1), -torch.inf)
        return torch.nn.functional.cross_entropy(scores, torch.arange(len(pairs), device=self.device))

    def _unit(self, rows: Ids) -> Tensor:
        batch = padded(rows, self._backbone.pad_id, tuple(range(len(rows))))
        ids, mask = batch.ids.to(self.device), batch.mask.to(self.device)
        with casting(self.device):
            states = self._backbone.states(ids, mask)
        return torch.nn.functional.normalize(pooled(states, mask, "mean"))


Pairs = Sequence[tuple[Sequence[int], int, int]]  # (question's ids, right passage, wrong passage)


def embedded(backbone: Backbone, rows: Ids) -> Rows:
    """Unit rows, shape (rows, hidden)."""
    found = prepared(backbone, rows, backbone.depth, pooling="mean")
    assert isinstance(found, States)  # of a network that runs no block: pooled rows
    unit: Rows = torch.nn.functional.normalize(found.flat).cpu().numpy()
    return unit


def mined(part: Judged, asked: Rows, passages: Rows, questions: Ids, seed: int) -> Pairs:
    """Each question with one of its passages and a hard negative."""
    draw = np.random.default_rng(seed)
    made = []
    for at, relevant in enumerate(part.relevant):
        ranked = [int(one) for one in np.argsort(-(passages @ asked[at]), kind="stable")[: NEAR[1]]]
        wrong = [one for one in ranked[NEAR[0] :] if one not in relevant] or [
            one for one in ranked if one not in relevant
        ]
        if wrong:
            made += [(questions[at], right, int(draw.choice(wrong))) for right in relevant]
    if not made:
        raise DataRefused("every passage answers every question: there is nothing to tell apart")
    return made


def ndcg(part: Judged, asked: Rows, passages: Rows, depth: int = 10) -> NDArray[np.float64]:
    """nDCG@depth of each question, shape (questions,)."""
    found = np.zeros(len(part.questions))
    discount = 1 / np.log2(np.arange(2, depth + 2))
    for at, relevant in enumerate(part.relevant):
        ranked = np.argsort(-(passages @ asked[at]), kind="stable")[:depth]
        gains = np.array([relevant.get(int(one), 0.0) for one in ranked])
        best = np.sort(list(relevant.values()))[::-1][:depth]
        found[at] = (gains * discount[: len(gains)]).sum() / (best * discount[: len(best)]).sum()
    return found


def check_embedder(folder: Path) -> None:
    """Raises BaseRefused for an embedder that does more than mean pooling of plain texts."""
    pooling, prompts = folder / "1_Pooling" / "config.json", folder / "config_sentence_transformers.json"
    said = json.loads(pooling.read_text()) if pooling.is_file() else {}
    mode = said.get("pooling_mode", "mean" if said.get("pooling_mode_mean_tokens", True) else "other")
    if mode != "mean" or list(folder.glob("*_Dense")):
        raise BaseRefused(f"{folder.name} does not pool by the mean alone; finetuning of others is not built")
    if prompts.is_file() and any((json.loads(prompts.read_text()).get("prompts") or {}).values()):
        raise BaseRefused(
            f"{folder.name} puts prompts before texts; finetuning of such embedders is not built"
        )


def write_embedder(backbone: Backbone, target: Path, note: Mapping[str, Any]) -> None:
    """The base's folder with the new weights, under its name at once. Raises DataRefused when it is there."""
    if target.exists():
        raise DataRefused(f"{target} is there already: name a new folder, an embedder never changes")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        skip = shutil.ignore_patterns("*.safetensors", "*.bin", "onnx", "openvino")
        shutil.copytree(backbone.folder, scratch, ignore=skip, dirs_exist_ok=True)
        config = (scratch / "config.json").read_bytes()
        backbone.model.save_pretrained(str(scratch), safe_serialization=True)
        (scratch / "config.json").write_bytes(config)  # as the base had it: nothing else changed
        (scratch / "origin.json").write_text(json.dumps(note, indent=1) + "\n")
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _judged(questions: Path, judgements: Path, place: Mapping[str, int]) -> Judged:
    """Questions without a judged passage of the corpus are left out."""
    texts = {str(row.get("id")): str(row.get("text", "")) for _, row in read_objects(questions)}
    if not judgements.is_file():
        raise DataRefused(f"no {judgements}: lines of query-id, corpus-id, score")
    relevant: dict[str, dict[int, float]] = {}
    for number, line in enumerate(judgements.read_text(encoding="utf-8").splitlines(), 1):
        cells = line.split("\t")
        if number == 1 and cells[-1:] == ["score"]:
            continue
        try:
            asked, passage, gain = cells[0], cells[1], float(cells[2])
        except (IndexError, ValueError):
            raise DataRefused(
                f"{judgements}, line {number}: query-id, corpus-id and a number are wanted"
            ) from None
        if gain > 0 and passage in place and asked in texts:
            relevant.setdefault(asked, {})[place[passage]] = gain
    if not relevant:
        raise DataRefused(f"{judgements} judges no question of {questions.name} with a passage of the corpus")
    kept = [one for one in texts if one in relevant]
    return Judged(tuple(texts[one] for one in kept), tuple(relevant[one] for one in kept))


def _some(part: Judged, keep: Sequence[bool]) -> Judged:
    return Judged(
        tuple(one for one, yes in zip(part.questions, keep, strict=True) if yes),
        tuple(one for one, yes in zip(part.relevant, keep, strict=True) if yes),
    )
