"""What may become an adapter here; everything else is refused with its cause, and changes nothing."""

import io
import json
import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from server.adapters.intake import Bounds, Intake
from server.adapters.shelf import Shelf
from server.adapters.tensor_files import read_header
from server.errors import InvalidValue, NotFound, UnsupportedAdapterKind
from server.models import ModelUnavailable
from tests.server.adapters.making import (
    BASE,
    LORA,
    lora_tensors,
    write_lora,
    write_manifest,
    write_peft,
    write_prefix,
    write_soft,
)


@pytest.fixture
def intake(tmp_path):
    return Intake(tmp_path / "adapters", BASE, Bounds(rank=8, tokens=64, block=4))


def everything(root):
    return sorted(str(file.relative_to(root)) for file in root.rglob("*")) if root.exists() else []


def test_a_plain_peft_folder_becomes_a_version_named_by_its_content(intake, tmp_path):
    artefact = intake.from_folder(write_lora(tmp_path / "peft"), name="polite")
    assert artefact.reference == f"polite@{artefact.digest[:12]}"
    assert (artefact.kind, artefact.length, artefact.added_tokens) == ("lora", 4, 0)
    assert sorted(file.name for file in artefact.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    again = intake.from_folder(tmp_path / "peft", name="polite")
    assert again.folder == artefact.folder
    other = intake.from_folder(write_lora(tmp_path / "other", seed=1), name="polite")
    assert other.version != artefact.version


def test_a_folder_of_training_keeps_the_version_it_says(intake, tmp_path):
    folder = write_soft(tmp_path / "soft")
    (folder / "report.json").write_text('{"train_seconds": 3.5}')
    write_manifest(folder, "tone", "soft-prompt", metrics={"accuracy": 0.9}, parent="tone@000000000000")
    artefact = intake.from_folder(folder)
    assert artefact.version == json.loads((folder / "manifest.json").read_text())["version"]
    assert (artefact.kind, artefact.length, artefact.added_tokens) == ("soft-prompt", 5, 5)
    assert artefact.metrics == {"accuracy": 0.9}
    assert artefact.parent == "tone@000000000000"
    assert intake.in_place("tone", artefact.version).digest == artefact.digest


def test_a_rerun_that_only_took_longer_is_the_same_version(intake, tmp_path):
    versions = set()
    for seconds in (3, 4):
        folder = write_soft(tmp_path / f"soft{seconds}")
        (folder / "report.json").write_text(json.dumps({"train_seconds": seconds}))
        write_manifest(folder, "tone", "soft-prompt", created=float(seconds))
        versions.add(intake.from_folder(folder).version)
    assert len(versions) == 1


def test_prefixes_come_as_peft_stores_them_or_as_keys_and_values(intake, tmp_path):
    assert intake.from_folder(write_prefix(tmp_path / "p", tokens=8), name="p").length == 8
    folder = tmp_path / "kv"
    folder.mkdir()
    both = np.zeros((2, 2, 8, 8), np.float32)
    save_file({"k": both, "v": both}, folder / "weights.safetensors")
    assert intake.from_folder(write_manifest(folder, "kv", "prefix")).length == 8


class Canary:
    """Unpickling this makes a file."""

    def __init__(self, at):
        self.at = at

    def __reduce__(self):
        return (open, (str(self.at), "w"))


def with_pickle(folder, name):
    (folder / name).write_bytes(pickle.dumps(Canary(folder.parent / "canary")))


def with_link(folder):
    (folder / "adapter_model.safetensors").rename(folder.parent / "away")
    (folder / "adapter_model.safetensors").symlink_to(folder.parent / "away")


def with_nan(folder):
    tensors = lora_tensors()
    tensors[next(iter(tensors))][0, 0] = np.nan
    save_file(tensors, folder / "adapter_model.safetensors")


def with_infinity_in_bfloat16(folder):
    shape = [4, 32]
    header = {
        f"base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight": {
            "dtype": "BF16",
            "shape": shape if side == "A" else shape[::-1],
            "data_offsets": [256 * n, 256 * (n + 1)],
        }
        for n, side in enumerate("AB")
    }
    body = bytearray(512)
    body[10:12] = b"\x80\x7f"
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)


def cut(folder):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])


def with_tail(folder):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes() + b"MZ")


def huge_header(folder):
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")


def deep_header(folder):
    text = b"[" * 100_000
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)


def rewrite(**config):
    return lambda folder: (folder / "adapter_config.json").write_text(json.dumps(LORA | config))


def tensors_of(change):
    def spoil(folder):
        tensors = lora_tensors()
        change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return spoil


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
HOSTILE = {
    "a pickle in place of the weights": (lambda f: with_pickle(f, "adapter_model.bin"), "may run code"),
    "a torch file beside safetensors": (lambda f: with_pickle(f, "adapter_model.pt"), "may run code"),
    "a skops file": (lambda f: with_pickle(f, "classifier.skops"), "may run code"),
    "python code": (lambda f: (f / "modeling.py").write_text("import os"), "may run code"),
    "an unknown file": (lambda f: (f / "weights.exe").write_text(""), "no file of an adapter"),
    "a folder": (lambda f: (f / "inner").mkdir(), "no regular file"),
    "a symbolic link": (with_link, "symbolic link"),
    "a pipe": (lambda f: os.mkfifo(f / "weights.safetensors"), "no regular file"),
    "weights twice": (
        lambda f: save_file(lora_tensors(), f / "weights.safetensors"),
        "one file of weights",
    ),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "one file of weights"),
    "not a number": (with_nan, "NaN"),
    "infinity in bfloat16": (with_infinity_in_bfloat16, "NaN or infinity"),
    "a file cut short": (cut, "cut short"),
    "a tail after the tensors": (with_tail, "has a tail"),
    "a huge header": (huge_header, "header claims"),
    "a deep header": (deep_header, "not JSON"),
    "an empty file": (lambda f: (f / "adapter_model.safetensors").write_bytes(b""), "header claims"),
    "a rank beyond the engine's": (lambda f: write_over(f, rank=16), "engine.max_lora_rank"),
    "another rank than the config says": (rewrite(r=2), "rank and base ask for"),
    "a rank that is a lie": (rewrite(r=10**9), "rank and base ask for"),
    "a rank of nothing": (rewrite(r=0), "whole number"),
    "a rank that is a word": (rewrite(r="4"), "whole number"),
    "DoRA": (rewrite(use_dora=True), "DoRA"),
    "a bias": (rewrite(bias="all"), "bias"),
    "a bias inside the pairs": (rewrite(lora_bias=True), "bias"),
    "a start that changes the base": (rewrite(init_lora_weights="pissa"), "path_initial_model"),
    "whole modules": (rewrite(modules_to_save=["lm_head"]), "modules_to_save=None"),
    "layer replication": (rewrite(layer_replication=[[0, 1]]), "replicates no layers"),
    "trained tokens": (rewrite(trainable_token_indices=[1]), "soft prompt"),
    "a pattern that is a program": (rewrite(rank_pattern={"(a+)+$": 4}), "ends of module names"),
    "no target modules": (rewrite(target_modules=None), "target_modules is missing"),
    "no alpha": (rewrite(lora_alpha=None), "number above 0"),
    "an unknown field": (rewrite(use_newest_thing=True), "'use_newest_thing' is not known"),
    "a config that is no JSON": (
        lambda f: (f / "adapter_config.json").write_text("r=4"),
        "not a JSON object",
    ),
    "a layer that the base has not": (
        tensors_of(lambda t: t.update({FIRST.replace("layers.0", "layers.9"): t[FIRST]})),
        "no layer",
    ),
    "half a pair": (tensors_of(lambda t: t.pop(FIRST)), "half a pair"),
    "a wrong width": (tensors_of(lambda t: t.update({FIRST: t[FIRST][:, :-1].copy()})), "rank and base"),
    "a tensor of something else": (tensors_of(lambda t: t.update({"lm_head.weight": t[FIRST]})), "no LoRA"),
    "integers": (tensors_of(lambda t: t.update({FIRST: t[FIRST].astype(np.int32)})), "is I32"),
}


def write_over(folder, rank):
    save_file(lora_tensors(rank=rank), folder / "adapter_model.safetensors")
    rewrite(r=rank)(folder)


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_folders_are_refused_and_nothing_changes(intake, tmp_path, case):
    spoil, says = HOSTILE[case]
    folder = write_lora(tmp_path / "evil")
    spoil(folder)
    with pytest.raises(InvalidValue, match="(?s)" + says):
        intake.from_folder(folder, name="evil")
    assert everything(intake.root) == []
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "org/name", "UPPER", "", "a" * 64, "a@b", ".", "a\0b", "-a"]
)
def test_names_that_are_paths_or_hub_ids_are_refused(intake, tmp_path, name):
    with pytest.raises(InvalidValue, match="cannot be an adapter's name"):
        intake.from_folder(write_lora(tmp_path / "peft"), name=name)
    assert everything(intake.root) == []


@pytest.mark.parametrize("name", ["../x.safetensors", "/tmp/x", "a/b", "..", "", "weights.safetensors\0"])
def test_uploaded_file_names_are_no_paths(intake, name):
    with pytest.raises(InvalidValue, match=r"no plain file name|no file of an adapter"):
        intake.from_streams([(name, io.BytesIO(b"x"))], name="x")
    assert everything(intake.root) == []


def test_an_upload_beyond_the_bound_is_refused(tmp_path):
    intake = Intake(tmp_path / "adapters", BASE, Bounds(bytes=1000))
    with pytest.raises(InvalidValue, match=r"adapters\.bytes"):
        intake.from_folder(write_lora(tmp_path / "p"), name="x")
    assert everything(intake.root) == []


def test_manifests_that_do_not_fit_their_files_or_base_are_refused(intake, tmp_path):
    def refused(says, **fields):
        name = fields.pop("called", "m")
        folder = write_manifest(write_lora(tmp_path / says.replace(" ", "")[:20]), name, "lora", **fields)
        with pytest.raises(InvalidValue, match=says) as caught:
            intake.from_folder(folder)
        return caught.value

    assert refused("another base", base="0" * 64).param == "manifest.json.base.digest"
    refused("its version does not follow", version="0" * 12)
    refused("its digest does not follow", digest="0" * 64)
    refused("its format is 2", format=2)
    refused("does not know", surprise=1)
    refused("must give each file", files={"adapter_config.json": "x"})
    refused("cannot be an adapter's name", called="../up")
    folder = write_manifest(write_lora(tmp_path / "changed"), "m", "lora")
    with (folder / "adapter_config.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(InvalidValue, match="not the file that the manifest was written for"):
        intake.from_folder(folder)
    with pytest.raises(InvalidValue, match="the manifest says the name"):
        intake.from_folder(write_manifest(write_lora(tmp_path / "named"), "m", "lora"), name="n")
    assert everything(intake.root) == []


@pytest.mark.parametrize("kind", ["features", "reward", "lora-classifier", "banana"])
def test_kinds_that_do_not_go_live_say_what_to_do(intake, tmp_path, kind):
    with pytest.raises(UnsupportedAdapterKind, match="none of" if kind == "banana" else "cannot be loaded"):
        intake.from_folder(write_manifest(write_lora(tmp_path / "k"), "m", kind))


def test_soft_prompts_and_prefixes_must_fit_the_base(intake, tmp_path):
    with pytest.raises(InvalidValue, match=r"the base needs \(tokens, 32\)"):
        intake.from_folder(write_soft(tmp_path / "wide", hidden=33), name="x")
    with pytest.raises(InvalidValue, match="shorter one"):
        intake.from_folder(write_soft(tmp_path / "long", tokens=65), name="x")
    with pytest.raises(InvalidValue, match="whole KV blocks"):
        intake.from_folder(write_prefix(tmp_path / "odd", tokens=6), name="x")
    folder = write_soft(tmp_path / "lie")
    config = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidValue, match="num_virtual_tokens is 4"):
        intake.from_folder(folder, name="x")
    with pytest.raises(UnsupportedAdapterKind, match="convert_to_lora"):
        intake.from_folder(
            write_peft(tmp_path / "v", lora_tensors(), {"peft_type": "VERA", "r": 4}), name="x"
        )


def test_what_was_published_stays_what_it_was(intake, tmp_path):
    artefact = intake.from_folder(write_lora(tmp_path / "peft"), name="polite")
    with (artefact.folder / "adapter_model.safetensors").open("r+b") as stream:
        stream.seek(-4, os.SEEK_END)
        stream.write(b"\0\0\x80\x3f")
    with pytest.raises(InvalidValue, match="not the file that the manifest was written for"):
        intake.in_place("polite", artefact.version)
    with pytest.raises(NotFound):
        intake.in_place("polite", "0" * 12)
    for name, version in (("..", "0" * 12), ("polite", ".."), ("polite/x", "0" * 12)):
        with pytest.raises(InvalidValue):
            intake.in_place(name, version)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_flipped_bit_of_a_header_is_read_as_it_is_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("bits")
    file = folder / "weights.safetensors"
    save_file({"prompt_embeddings": np.ones((2, 3), np.float32)}, file)
    content = bytearray(file.read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    content[data.draw(st.integers(0, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    try:
        tensors = read_header(file)
    except InvalidValue:
        return
    for tensor in tensors.values():
        assert end <= tensor.start < tensor.stop <= len(content)


def test_a_base_that_is_not_here_is_no_bug(tmp_path):
    def missing():
        raise ModelUnavailable("the model 'x' is not in /secret/place")

    shelf = Shelf(tmp_path / "adapters", missing, Bounds(), tmp_path / "inbox")
    with pytest.raises(InvalidValue, match="no folder here") as caught:
        shelf.upload("x", None, [])
    assert "secret" not in caught.value.message
