"""The feature-based approach: a frozen model's vectors and a classifier of scikit-learn on top."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.backbone import Backbone, pooled
from training.batching import batches
from training.data import drawn
from training.finetuning import Texts, labels_of, scored
from training.inputs import FORWARD_TOKENS, casting
from training.memory import peak_bytes, reset_peak
from training.records import Cost, Pooling, Run

CLASSIFIERS = ("lr", "rf", "gb")
LAYER_ROWS = 5_000  # training texts that are enough to choose a layer by
STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # inverse regularisation of the logistic regression, tried on validation
Rows = NDArray[np.float32]


class Layer(NamedTuple):
    """After how many blocks, and how the tokens of a text become one row."""

    after: int
    pooling: Pooling


class Vectors(NamedTuple):
    """One matrix (texts, hidden) per layer and part."""

    train: dict[Layer, Rows]
    valid: dict[Layer, Rows]
    test: dict[Layer, Rows]
    seconds: float
    test_seconds: float


def layers_of(backbone: Backbone) -> tuple[Layer, ...]:
    """Which layers are tried: an encoder's last, as it was trained to be read; some depths of a decoder."""
    if backbone.family == "encoder":
        return (Layer(backbone.depth, "mean"),)
    depths = sorted({round(backbone.depth * part) for part in (0.4, 0.55, 0.7, 0.85, 1.0)})
    return tuple(Layer(depth, pooling) for depth in depths for pooling in ("mean", "last"))


def vectors(texts: Texts, layers: Sequence[Layer]) -> Vectors:
    """All layers of all parts in one pass."""
    backbone = texts.backbone
    began = time.perf_counter()
    train = layer_rows(backbone, texts.train, layers)
    valid = layer_rows(backbone, texts.valid, layers)
    middle = time.perf_counter()
    test = layer_rows(backbone, texts.test, layers)
    return Vectors(train, valid, test, middle - began, time.perf_counter() - middle)


def choose_layer(texts: Texts, found: Vectors) -> tuple[Layer, int]:
    """The layer whose logistic regression is best on the validation part, and how many were tried."""
    split = texts.split
    place = {id(one): at for at, one in enumerate(split.train)}
    some = [place[id(one)] for one in drawn(split.train, LAYER_ROWS)]  # files are often sorted by label
    truth, valid_truth = [split.train[at].label for at in some], labels_of(split.valid)

    def score(layer: Layer) -> float:
        fitted = _fitted_lr(found.train[layer][some], truth, 0.01)
        return float(fitted.score(found.valid[layer], valid_truth))

    best = max(found.train, key=score)
    return best, len(found.train)


def classify(
    texts: Texts, found: Vectors, layer: Layer, classifier: str, *, rung: str, seed: int, trees: int = 300
) -> tuple[Run, Any]:
    """The run, and the fitted classifier."""
    split = texts.split
    reset_peak()
    truth, valid_truth = labels_of(split.train), labels_of(split.valid)
    began = time.perf_counter()
    fitted, tried = _fit(classifier, found.train[layer], truth, found.valid[layer], valid_truth, seed, trees)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    guesses = [int(guess) for guess in fitted.predict(found.test[layer])]
    serve = (time.perf_counter() - began + found.test_seconds) / len(split.test)
    cost = Cost(
        train_seconds=seconds,
        prepare_seconds=found.seconds,
        peak_bytes=peak_bytes(),
        trainable=_size(fitted),
        total=texts.backbone.parameters,
        artefact_bytes=_size(fitted) * 8,
        serve_seconds=serve,
        truncated=texts.truncated,
    )
    settings = {
        "classifier": classifier,
        "after_block": layer.after,
        "pooling": layer.pooling,
        "tried": tried,
    }
    valid = float(fitted.score(found.valid[layer], valid_truth))
    return scored(split, guesses, rung=rung, seed=seed, valid=valid, cost=cost, settings=settings), fitted


def _fit(
    classifier: str, rows: Rows, truth: list[int], valid: Rows, valid_truth: list[int], seed: int, trees: int
) -> tuple[Any, int]:
    if classifier == "lr":
        tried = [_fitted_lr(rows, truth, strength) for strength in STRENGTHS]
        return max(tried, key=lambda one: one.score(valid, valid_truth)), len(tried)
    if classifier == "rf":
        return RandomForestClassifier(trees, n_jobs=-1, random_state=seed).fit(rows, truth), 1
    boosted = HistGradientBoostingClassifier(
        max_iter=trees, learning_rate=0.1, early_stopping=True, random_state=seed
    )
    return boosted.fit(rows, truth), 1


def _fitted_lr(rows: Rows, truth: list[int], strength: float) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500)).fit(rows, truth)


def _size(fitted: Any) -> int:
    """Numbers that the classifier learned."""
    if hasattr(fitted, "estimators_"):
        return int(sum(tree.tree_.node_count for tree in fitted.estimators_) * 5)
    if hasattr(fitted, "_predictors"):
        return int(sum(one.nodes.size for stage in fitted._predictors for one in stage) * 5)
    last = fitted[-1]
    return int(last.coef_.size + last.intercept_.size)


def layer_rows(
    backbone: Backbone, rows: Sequence[Sequence[int]], layers: Sequence[Layer]
) -> dict[Layer, Rows]:
    """One matrix (texts, hidden) per layer, of texts given as token ids."""
    out = {layer: np.empty((len(rows), backbone.hidden), dtype=np.float32) for layer in layers}
    budget = FORWARD_TOKENS[backbone.device.type] // 2  # all layers of a batch are alive at once
    for batch in batches(rows, budget, backbone.pad_id):
        ids, mask = batch.ids.to(backbone.device), batch.mask.to(backbone.device)
        with torch.no_grad(), casting(backbone.device):
            states = backbone.all_states(ids, mask)
            for layer in layers:
                out[layer][list(batch.at)] = pooled(states[layer.after], mask, layer.pooling).cpu().numpy()
    return out
