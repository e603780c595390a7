"""Adapters of a language model: they learn, they are whole folders, peft reads back what was trained."""

import json
import random

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from server.adapters.base_model import base_digest as served_digest
from server.adapters.base_model import read_base
from server.adapters.intake import Bounds, Intake
from server.adapters.manifest import read_manifest
from tests.training.conftest import BAD, GOOD
from training import artefacts
from training.adapting import Adapter, adapted
from training.backbone import base_digest
from training.commands import train
from training.dialogues import Encoded, encode, read_dialogues
from training.errors import ArtefactRefused, DataRefused

FAST = ["--epochs", "12", "--learning-rate", "0.02", "--batch-texts", "8", "--rank", "4", "--tokens", "8"]


@pytest.fixture(scope="session")
def answers(tmp_path_factory):
    """Every film gets one of the good words; the rejected answers are bad words."""
    path, draw = tmp_path_factory.mktemp("answers") / "rows.jsonl", random.Random(4)
    rows = [
        {
            "prompt": f"the {draw.choice(['film', 'story', 'actor', 'scene'])} was very",
            "completion": draw.choice(GOOD[:2]),
            "chosen": [{"role": "assistant", "content": draw.choice(GOOD[:2])}],
            "rejected": [{"role": "assistant", "content": draw.choice(BAD[:2])}],
            "split": "valid" if at % 8 == 0 else "train",
        }
        for at in range(64)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.mark.parametrize(
    "method", ["lora", "rslora", "ia3", "soft-prompt", "prefix", "dpo", "full", "bottleneck"]
)
def test_a_method_learns_and_publishes_what_the_server_reads(bases, answers, tmp_path, method):
    given = [method, "--data", str(answers), "--name", "taste", "--base", str(bases["decoder"])]
    found = CliRunner().invoke(train, [*given, "--out", str(tmp_path), *FAST], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    name, version = found.stdout.strip().split("@")
    folder = tmp_path / name / version
    manifest = read_manifest((folder / "manifest.json").read_bytes())
    assert (manifest.name, manifest.version, manifest.base) == (
        "taste",
        version,
        served_digest(bases["decoder"]),
    )
    weights, config = ("adapter_model.safetensors", "adapter_config.json")
    if method == "full":
        weights, config = "model.safetensors", "config.json"
    kept = {weights, config} if method != "bottleneck" else {weights := "weights.safetensors"}
    assert set(manifest.files) == kept | {"report.json"}
    report = json.loads((folder / "report.json").read_text())
    assert report["score"] > report["score_before"]
    assert config not in kept or str(bases["decoder"]) not in (folder / config).read_text()
    assert all(torch.isfinite(one).all() for one in load_file(folder / weights).values())
    bounds = Bounds(rank=64, tokens=512, prefix_tokens=512)
    taken = Intake(tmp_path / "kept", read_base(bases["decoder"]), bounds).from_folder(folder)
    assert taken.reference == f"taste@{version}"  # the server takes it


def test_what_is_published_is_what_was_trained(bases, answers, tmp_path):
    """Loaded by peft into a fresh base, the folder scores as the report says."""
    import peft
    from transformers import AutoModelForCausalLM

    given = ["lora", "--data", str(answers), "--name", "taste", "--base", str(bases["decoder"])]
    found = CliRunner().invoke(train, [*given, "--out", str(tmp_path), *FAST], catch_exceptions=False)
    folder = tmp_path / "taste" / found.stdout.strip().split("@")[1]
    _, tokenizer = adapted(bases["decoder"], "cpu", "lora", rank=4, tokens=1, seed=1)
    rows = read_dialogues(answers, ("completion",))
    valid, _ = encode(rows.valid, tokenizer, 100, answers)
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases["decoder"]), folder)
    score = Adapter(model, valid, valid).score()
    assert score == pytest.approx(json.loads((folder / "report.json").read_text())["score"], abs=1e-5)


def test_the_digest_of_a_base_is_the_servers(bases):
    assert base_digest(bases["decoder"]) == served_digest(bases["decoder"])


def test_only_the_answer_is_learned(bases):
    """The loss is −mean ln p of the answer's tokens, computed here by hand."""
    model, _ = adapted(bases["decoder"], "cpu", "lora", rank=2, tokens=1, seed=3)
    row = Encoded((9, 10, 11), ((12, 2),))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[9, 10, 11, 12, 2]])).logits[0].log_softmax(-1)
    want = -(logits[2, 12] + logits[3, 2]) / 2
    learner = Adapter(model, [row, Encoded((9,), ((10, 11, 12, 13, 2),))], [row])
    assert float(learner.loss([0]).detach()) == pytest.approx(float(want), abs=1e-5)
    assert learner.score() == pytest.approx(-float(want), abs=1e-5)


def test_dpo_starts_at_ln_two_and_its_gradient_prefers_the_chosen(bases):
    model, _ = adapted(bases["decoder"], "cpu", "lora", rank=2, tokens=1, seed=3)
    pair = Encoded((9, 10), ((11, 2), (12, 2)))
    learner = Adapter(model, [pair], [pair])
    loss = learner.loss([0])
    assert float(loss.detach()) == pytest.approx(np.log(2), abs=1e-6)  # the adapter starts as the reference
    loss.backward()
    with torch.no_grad():
        for one in learner.named().values():
            if one.grad is not None:
                one -= 0.5 * one.grad
    assert -0.6931 < learner.score() < 0
    assert learner.told_right == 1.0


def test_the_same_content_is_the_same_version_and_never_changes(tmp_path):
    def publish(text, **said):
        return artefacts.publish(
            tmp_path, "a", "lora", lambda folder: (folder / "adapter_config.json").write_text(text),
            base={"digest": "b" * 64}, report={}, **said,
        )  # fmt: skip

    first, again, other = publish("{}"), publish("{}", metrics={"x": 1}), publish('{"r": 1}')
    assert first == again
    assert first.version != other.version
    assert "metrics" not in json.loads((first.folder / "manifest.json").read_text())
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted([first.version, other.version])


@pytest.mark.parametrize("name", ["../up", "Upper", "", "-first", "a" * 64, "with space"])
def test_a_name_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(ArtefactRefused, match="is no name of an adapter"):
        artefacts.publish(tmp_path, name, "lora", lambda folder: None, base={"digest": ""}, report={})
    assert not list(tmp_path.iterdir())


def test_a_file_that_may_run_code_is_never_published(tmp_path):
    with pytest.raises(ArtefactRefused, match=r"weights\.bin does not belong"):
        artefacts.publish(
            tmp_path, "a", "lora", lambda folder: (folder / "weights.bin").write_bytes(b"x"),
            base={"digest": ""}, report={},
        )  # fmt: skip
    assert not list((tmp_path / "a").iterdir())


@pytest.mark.parametrize(
    ("row", "columns", "said"),
    [
        ({"completion": "x"}, ("completion",), 'line 1: "prompt" must be'),
        ({"prompt": [{"role": "user"}], "completion": "x"}, ("completion",), 'line 1: "prompt" must be'),
        ({"prompt": "q", "completion": " "}, ("completion",), 'line 1: "completion" must be'),
        ({"prompt": "q", "chosen": "x", "rejected": "x"}, ("chosen", "rejected"), "are the same"),
        ({"prompt": "q", "completion": "x", "split": "dev"}, ("completion",), "split is 'dev', not one of"),
        ({"prompt": "q", "completion": "x"}, ("completion",), "at least two rows"),
    ],
)
def test_rows_that_teach_nothing_are_refused_by_line(tmp_path, row, columns, said):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataRefused, match=said):
        read_dialogues(path, columns)


def test_rows_too_long_are_counted_and_all_too_long_is_an_error(bases, answers):
    _, tokenizer = adapted(bases["decoder"], "cpu", "lora", rank=2, tokens=1, seed=3)
    rows = read_dialogues(answers, ("completion",)).train
    longer = rows[0]._replace(prompt="the film was very very very quite warm")
    kept, long = encode([*rows, longer], tokenizer, 6, answers)  # 4 words, an answer, the end
    assert (len(kept), long) == (len(rows), 1)
    with pytest.raises(DataRefused, match=r"no row of .* fits into 3 tokens"):
        encode(rows, tokenizer, 3, answers)
