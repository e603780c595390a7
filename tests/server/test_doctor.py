"""What `fewshot doctor` says of good and of bad conditions, all of them real ones."""

import json
import socket
from contextlib import closing

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from indexer.catalogue import Catalogue
from indexer.database import open_database, writing
from indexer.hash_embedder import HashEmbedder
from indexer.ingest import ingest
from indexer.progress import Lines
from indexer.reading.reader import read
from indexer.splitting import Splitting
from server.cli import main
from server.diagnosis import holdings, machine, reading, software
from server.diagnosis.findings import fail, ok
from server.doctor import line
from server.keys import Keys, read_secret
from server.settings import load_settings


@pytest.fixture
def settings(tmp_path):
    paths = {"data": str(tmp_path / "data"), "cache": str(tmp_path / "cache")}
    return load_settings(environ={}, overrides={"paths": paths, "retrieval": {"embedder": "hash"}})


@pytest.fixture
def store(settings, tmp_path):
    (tmp_path / "a.txt").write_text("Ducks swim on the pond.")
    with closing(Catalogue(settings.paths.data)) as catalogue:
        ingest(catalogue, "ducks", [tmp_path / "a.txt"], HashEmbedder(), read, Splitting(), Lines())
    return settings.paths.data


def states(findings):
    return {finding.name: finding.state for finding in findings}


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 51, 2), (3, 52, 0)])
def test_an_sqlite_that_loses_writes_fails_and_says_what_to_install(version):
    found = software.sqlite(version)
    assert found.state == "fail"
    assert "pysqlite3" in found.way_out


def test_old_and_missing_packages_are_named_each_and_the_others_together():
    versions = {name: least for name, (least, _) in software.NEEDED.items()} | {
        "starlette": "1.0.0",
        "jinja2": None,
        "torch": "2.13.0+cpu",
        "vllm": "0.25.1",
    }
    found = {one.name: one for one in software.software(models=True, version_of=versions.get)}
    wrong = {name: one.state for name, one in found.items() if one.state != "ok"}
    assert wrong == {"starlette": "fail", "jinja2": "fail", "vllm": "warn"}
    assert "torch 2.13.0+cpu" in found["packages"].found
    assert "PYSEC-2026-248" in found["starlette"].found
    without = states(software.software(models=False, version_of={**versions, "torch": None}.get))
    assert "torch" not in without


def test_versions_are_compared_as_numbers():
    assert software.parsed("2.13.0+cpu") > software.parsed("2.9.1")
    assert software.parsed("0.0.27") == (0, 0, 27)
    assert software.parsed("nonsense") == ()


def test_a_port_that_something_holds_fails_and_a_free_one_does_not():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        number = held.getsockname()[1]
        found = machine.port("127.0.0.1", number, "port")
        assert found.state == "fail"
        assert str(number) in found.found
    assert machine.port("127.0.0.1", number, "port").state == "ok"
    assert machine.port("127.0.0.1", 0, "port").state == "ok"


def test_a_network_file_system_fails_by_the_nearest_mount(tmp_path):
    mounts = tmp_path / "mounts"
    shared = tmp_path / "shared"
    (shared / "local").mkdir(parents=True)
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\nhost:/x {shared} nfs4 rw 0 0\n/dev/b {shared}/local xfs rw 0 0\n"
    )
    assert machine.file_system(shared / "data", mounts).state == "fail"
    assert machine.file_system(shared / "local" / "data", mounts) == ok("file system", "xfs")
    assert machine.file_system(tmp_path, mounts) == ok("file system", "ext4")


def test_a_model_larger_than_memory_fails(settings, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(bytes(1000))
    assert machine.memory(settings, model, 3 * machine.GIB).state == "ok"
    assert machine.memory(settings, model, 2 * machine.GIB).state == "fail"


def test_half_precision_on_a_processor_that_emulates_it_is_warned_of():
    assert machine.processor({"avx2"}, "auto").state == "ok"
    assert machine.processor({"avx2"}, "bfloat16").state == "warn"
    assert machine.processor({"avx512_bf16"}, "bfloat16").state == "ok"


def test_few_open_files_are_warned_of():
    assert machine.files(1500, 1000).state == "warn"
    assert machine.files(65536, 1000).state == "ok"


def test_documents_can_be_read_here():
    assert reading.reader().state in ("ok", "warn")


def test_a_model_that_is_not_there_or_not_whole_or_too_short_fails(settings):
    assert holdings.engine_model(settings).way_out.startswith("fewshot models fetch")
    folder = settings.paths.cache / "models" / settings.engine.model
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 1024}))
    assert "safetensors" in holdings.engine_model(settings).found
    (folder / "model.safetensors").write_bytes(b"")
    assert "context of 1024" in holdings.engine_model(settings).found
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 8192}))
    assert holdings.engine_model(settings).state == "ok"


def test_a_store_is_ok_until_a_byte_of_it_is_flipped(settings, store):
    assert states(holdings.stores(settings)) == {"store ducks": "ok"}
    file = next((store / "stores").rglob("ids.i64"))
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    (found,) = holdings.stores(settings)
    assert found.state == "fail"
    assert "ids.i64" in found.found
    assert found.way_out


def test_a_database_of_a_newer_release_or_none_at_all_fails(settings, store):
    assert states(holdings.databases(settings)) == {"catalogue": "ok", "journal": "ok"}
    engine = open_database(store / "catalogue.db")
    with writing(engine) as connection:
        connection.execute(sa.text("PRAGMA user_version = 999"))
    engine.dispose()
    (store / "journal.db").write_bytes(b"no database" * 100)
    assert states(holdings.databases(settings)) == {"catalogue": "fail", "journal": "fail"}


def test_keys_are_needed_where_they_are_asked_for(settings):
    asking = settings.model_copy(update={"auth": settings.auth.model_copy(update={"enabled": True})})
    assert holdings.keys(settings).state == "ok"
    assert holdings.keys(asking).state == "warn"
    data = settings.paths.data
    engine = open_database(data / "journal.db")
    Keys(engine, pepper=read_secret(data)).create(tenant="acme", scopes=("infer",))
    engine.dispose()
    assert holdings.keys(asking) == ok("keys", "1 active")
    (data / "secret").chmod(0o644)
    assert holdings.keys(asking).state == "fail"


def test_the_command_changes_nothing_and_its_exit_code_is_the_worst(tmp_path):
    environment = {"FEWSHOT_DATA_DIR": str(tmp_path / "data"), "FEWSHOT_CACHE_DIR": str(tmp_path / "cache")}
    done = CliRunner().invoke(main, ["doctor", "--json"], env=environment)
    found = {one["name"]: one for one in json.loads(done.output)}
    assert done.exit_code == 1
    assert found["model"]["state"] == "fail"
    assert found["catalogue"]["state"] == "ok"
    assert all(one["way_out"] for one in found.values() if one["state"] != "ok")
    assert list(tmp_path.iterdir()) == []


def test_refused_settings_are_a_finding_too():
    done = CliRunner().invoke(main, ["doctor"], env={"FEWSHOT_SERVER_PORT": "many"})
    assert done.exit_code == 1
    assert done.output.startswith("fail settings: settings refused: server.port")


def test_a_line_ends_with_the_way_out():
    assert line(ok("disk", "5 GiB")) == "ok   disk: 5 GiB"
    assert line(fail("disk", "full", "free some")) == "fail disk: full -> free some"


def test_a_card_that_is_shared_in_turn_is_told_with_the_way_out(tmp_path):
    for device in ("auto", "cuda", "cuda:0"):
        apart = machine.sharing(tmp_path, device, cards=1)
        assert apart.state == "warn"
        assert "deploy/gpu/shared.sh" in apart.way_out
        assert "cuda:1" not in apart.way_out
        assert "retrieval.device = cuda:1" in machine.sharing(tmp_path, device, cards=2).way_out
    for device in ("cpu", "cuda:1"):
        assert machine.sharing(tmp_path, device, cards=2).state == "ok"
    (tmp_path / "control").touch()
    assert machine.sharing(tmp_path, "auto", cards=1).state == "ok"
