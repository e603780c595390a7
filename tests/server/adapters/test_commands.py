"""`fewshot adapters` beside a server and without one: the same book, the same names."""

import json

import pytest
from click.testing import CliRunner

from server.cli import main
from tests.server.adapters.making import write_lora


@pytest.fixture
def fewshot(tmp_path, monkeypatch):
    """The command with a tiny base model on disk; port 9 answers nobody."""
    model = tmp_path / "tiny"
    model.mkdir()
    write_base(model)
    monkeypatch.setenv("FEWSHOT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FEWSHOT_ENGINE_MODEL", str(model))
    monkeypatch.setenv("FEWSHOT_SERVER_PORT", "9")

    def run(*words, ok=True):
        done = CliRunner().invoke(main, ["adapters", *map(str, words)])
        assert (done.exit_code == 0) == ok, done.output
        return done.output.strip() if not ok else done.stdout.strip()

    return run


def write_base(folder):
    import numpy as np
    from safetensors.numpy import save_file

    from tests.server.adapters.making import BASE

    save_file(
        {name: np.zeros(shape, np.float32) for name, shape in BASE.shapes.items()},
        folder / "model.safetensors",
    )
    config = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32, "num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(config))


def test_without_a_server_the_book_is_kept(fewshot, tmp_path):
    assert "adapters add FOLDER" in CliRunner().invoke(main, ["adapters", "list"]).output
    first = fewshot("add", write_lora(tmp_path / "a", seed=1), "--name", "polite")
    second = fewshot("add", write_lora(tmp_path / "b", seed=2), "--name", "polite")
    assert fewshot("promote", first, "support") == f"support: nothing → {first}"
    assert fewshot("promote", second, "support", "--reason", "better") == f"support: {first} → {second}"
    assert fewshot("rollback", "support") == f"support: {second} → {first}"
    fewshot("unload", second)
    rows = {row["id"]: row for row in json.loads(fewshot("list", "--json"))["data"]}
    assert rows[first]["aliases"] == ["support"]
    assert rows[first]["rank"] == 4
    assert fewshot("list").splitlines()[0].startswith(first)
    steps = fewshot("list", "--steps").splitlines()
    assert "unload" in steps[0]
    assert f"support: {first} → {second}  by command  better" in steps[2]
    assert "is what the alias 'support' means" in fewshot("unload", first, ok=False)


def test_what_cannot_be_done_says_why(fewshot, tmp_path):
    folder = write_lora(tmp_path / "evil")
    (folder / "adapter_model.bin").write_bytes(b"")
    assert "may run code" in fewshot("add", folder, "--name", "x", ok=False)
    assert "name@version" in fewshot("load", "x", ok=False)
    assert "there is no adapter" in fewshot("load", "x@0123456789ab", ok=False)
    assert "start one with" in fewshot("load", "x@0123456789ab", "--url", "http://127.0.0.1:9", ok=False)


def test_a_running_server_does_the_steps_itself(fewshot, serve, tmp_path):
    with serve(folder=tmp_path / "data") as running:
        folder = write_lora(tmp_path / "data" / "inbox" / "a")
        running.client().post("/adapters", body={"name": "polite", "inbox": folder.name}, cast_to=dict)
        rows = json.loads(fewshot("list", "--json", "--url", running.url))["data"]
        reference = rows[0]["id"]
        assert fewshot("load", reference, "--url", running.url).startswith(f"loaded {reference}")
        assert fewshot("promote", reference, "support", "--url", running.url).endswith(f"→ {reference}")
        said = running.client().chat.completions.create(
            model="support", messages=[{"role": "user", "content": "Hello"}]
        )
        assert said.choices[0].message.content == f"[{reference}] Hello"
        assert "there is no alias" in fewshot("rollback", "x", "--url", running.url, ok=False)
