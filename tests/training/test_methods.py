"""Every way of training: it learns, it leaves the base as it was, it goes on after a stop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.backbone import Backbone
from training.batching import plan, width
from training.classification import Classifier, predict
from training.data import read_split
from training.errors import BaseRefused
from training.features import choose_layer, classify, layers_of, vectors
from training.finetuning import Texts, finetune, labels_of, settings_for, trainable
from training.inputs import prepared
from training.loop import train
from training.networks import METHODS, Bottleneck

SIZES = {"batch_texts": 16, "batch_tokens": 1_024, "max_tokens": 64}
OPTIONS = {"n": 2, "rank": 4, "width": 8, "tokens": 4}


@pytest.fixture(scope="module", params=["encoder", "decoder"])
def texts(request, bases, reviews):
    return Texts(Backbone(bases[request.param], "cpu"), read_split(reviews), 64)


def weights(backbone):
    return {name: one.clone() for name, one in backbone.model.named_parameters()}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_learns_and_leaves_the_base_as_it_was(texts, method):
    backbone = texts.backbone
    before = weights(backbone)
    epochs = 4 if method in ("last-n", "lora", "bottleneck") else 12
    settings = replace(settings_for(method, 11, epochs=epochs, checks=1, patience=99), **SIZES)
    if method == "all":
        settings = replace(settings, learning_rate=3e-3)  # random weights are far from where they should be
    if method == "prefix" and backbone.family == "encoder":
        with pytest.raises(BaseRefused, match="encoder, which reads no prefix"):
            finetune(texts, method, settings, rung=method, pooling="mean", options=OPTIONS)
    else:
        run = finetune(texts, method, settings, rung=method, pooling="mean", options=OPTIONS)
        assert len(run.test) == len(texts.split.test)
        assert min(loss for _, loss, _ in run.curve[1:]) < run.curve[0][1]
        assert run.cost.trainable > 0
        assert run.cost.total == sum(one.numel() for one in before.values())
        if method == "all":
            assert run.score > 0.9
    after = dict(backbone.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], one) for name, one in before.items())


def test_the_same_seed_gives_the_same_run(texts):
    settings = replace(settings_for("last-n", 23, epochs=1), **SIZES)
    first, second = (
        finetune(texts, "last-n", settings, rung="last-1", pooling="mean", options={"n": 1}) for _ in "ab"
    )
    assert first.curve == second.curve
    assert first.test == second.test


@pytest.mark.parametrize("start", [1, 3, 4])
def test_states_computed_once_are_what_the_whole_model_computes(texts, start):
    backbone = texts.backbone
    rows = texts.test[:9]
    whole = prepared(backbone, rows, 0, pooling="mean")
    with torch.no_grad():
        ids, mask = whole.take(range(9))
        want = backbone.states(ids, mask) * mask.unsqueeze(-1)
        for keep in (True, False):
            if start == backbone.depth:
                continue
            entering, found_mask = prepared(backbone, rows, start, pooling="mean", keep=keep).take(range(9))
            assert torch.equal(mask, found_mask)
            with backbone.above(start) as run:
                got = run(entering, mask) * mask.unsqueeze(-1)
            torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    if start == backbone.depth:
        pooled_rows, ones = prepared(backbone, rows, start, pooling="mean").take(range(9))
        assert pooled_rows.shape == (9, 1, backbone.hidden)
        torch.testing.assert_close(pooled_rows[:, 0], want.sum(1) / mask.sum(1, keepdim=True))
        assert ones.sum() == 9


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(texts, tmp_path):
    split, backbone = texts.split, texts.backbone
    settings = replace(settings_for("all", 5, epochs=2), **SIZES, dropout=0.0)
    inputs, valid, _ = texts.inputs(0, "mean")
    labels = labels_of(split.train), labels_of(split.valid)

    def go(path, most_seconds):
        with trainable(backbone, "all", 2, settings, "mean", {}) as network:
            learner = Classifier(network, inputs, labels[0], valid, labels[1])
            done = train(learner, settings, checkpoint=path, most_seconds=most_seconds)
            return done, predict(network, valid)

    whole, want = go(None, 1e9)
    stopped, _ = go(tmp_path / "run.safetensors", 0.0)
    assert stopped.stopped == "time"
    assert len(stopped.curve) < len(whole.curve)
    resumed, got = go(tmp_path / "run.safetensors", 1e9)
    assert [step for step, _, _ in resumed.curve] == [step for step, _, _ in whole.curve]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_features_choose_a_layer_on_validation_and_learn(texts):
    found = vectors(texts, layers_of(texts.backbone))
    layer, tried = choose_layer(texts, found)
    assert tried == len(layers_of(texts.backbone))
    run, fitted = classify(texts, found, layer, "lr", rung="features-lr", seed=1)
    assert run.score > 0.6  # random weights still tell words apart
    assert run.cost.trainable == fitted[-1].coef_.size + 1


def test_a_new_bottleneck_changes_nothing_and_its_gradient_is_right():
    torch.manual_seed(1)
    adapter = Bottleneck(6, 3).double()
    states = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.equal(adapter(states), states)
    torch.nn.init.normal_(adapter.up.weight, std=0.3)
    assert torch.autograd.gradcheck(adapter, (states,), eps=1e-6, atol=1e-4)


def test_a_diverging_run_is_refused_with_a_reason(texts):
    settings = replace(settings_for("all", 1, epochs=3), **SIZES, learning_rate=1e30, head_learning_rate=1e30)
    with pytest.raises(BaseRefused, match="lower the learning rate"):
        finetune(texts, "all", settings, rung="all", pooling="mean", options={})


def test_more_blocks_than_there_are_is_refused(texts):
    settings = settings_for("last-n", 1)
    with pytest.raises(BaseRefused, match="has 4 blocks"):
        finetune(texts, "last-n", settings, rung="last-9", pooling="mean", options={"n": 9})


@pytest.mark.parametrize("seed", [None, 4])
def test_a_plan_holds_every_row_once_and_keeps_to_its_sizes(seed):
    lengths = np.random.default_rng(2).integers(1, 90, 500)
    cut = plan(lengths, 300, 16, seed)
    assert sorted(at for batch in cut for at in batch) == list(range(500))
    assert all(len(batch) <= 16 for batch in cut)
    assert all(width(max(lengths[list(batch)])) * len(batch) <= 300 or len(batch) == 1 for batch in cut)
