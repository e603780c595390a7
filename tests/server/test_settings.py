"""Settings: file, variables, overrides; everything wrong named at once."""

from pathlib import Path

import pytest

from server.settings import Settings, SettingsRefused, knobs, load_settings, overridden, variable


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "fewshot.toml"
    file.write_text(text)
    return file


def test_variables_win_over_the_file_and_the_file_over_defaults(tmp_path):
    file = write(tmp_path, "[server]\nport = 1234\nqueue = 7\n[engine]\nkind = 'echo'\n")
    settings = load_settings(file, {"FEWSHOT_SERVER_PORT": "99"})
    assert (settings.server.port, settings.server.queue, settings.engine.kind) == (99, 7, "echo")


def test_every_bad_key_is_named_at_once(tmp_path):
    file = write(tmp_path, "[server]\nport = 'x'\ncolour = 1\n[nonsense]\na = 1\n")
    with pytest.raises(SettingsRefused) as refused:
        load_settings(file, {})
    for name in ("server.port", "server.colour", "nonsense"):
        assert name in str(refused.value)


def test_a_file_that_was_named_must_exist(tmp_path):
    with pytest.raises(SettingsRefused, match="no such file"):
        load_settings(tmp_path / "missing.toml", {})


def test_listening_beyond_loopback_needs_keys():
    with pytest.raises(SettingsRefused, match="fewshot keys create"):
        load_settings(None, {"FEWSHOT_SERVER_HOST": "0.0.0.0"})
    open_to_all = {"FEWSHOT_SERVER_HOST": "0.0.0.0", "FEWSHOT_AUTH_ENABLED": "true"}
    assert not load_settings(None, open_to_all).loopback


def test_an_override_is_checked_like_the_rest():
    with pytest.raises(SettingsRefused, match=r"auth\.enabled"):
        overridden(Settings(), {"server": {"host": "0.0.0.0", "port": None}})


def test_every_setting_has_a_meaning_and_a_variable_of_its_own():
    rows = knobs()
    assert all(about for _, _, _, about in rows)
    assert len({name for _, name, _, _ in rows}) == len(rows)
    assert variable("paths", "data") == "FEWSHOT_DATA_DIR"


def test_a_choice_of_numbers_comes_from_a_variable_too():
    assert load_settings(environ={"FEWSHOT_ENGINE_MAX_LORA_RANK": "8"}).engine.max_lora_rank == 8
    with pytest.raises(SettingsRefused, match="max_lora_rank"):
        load_settings(environ={"FEWSHOT_ENGINE_MAX_LORA_RANK": "9"})
