"""A store stays in step with its folders, and a run ends when it is asked to."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from indexer import inventory, watching
from indexer.catalogue import Catalogue
from indexer.commands.stores import stores
from indexer.errors import SourceMissing, StoreBusy
from indexer.publishing import writer
from indexer.stopping import Requested, request
from indexer.syncing import leave
from indexer.verification import findings
from tests.indexer.conftest import Watching


def sources(catalogue) -> dict[str, str]:
    return {file.filename: file.state for file in inventory.files(catalogue, catalogue.store("docs"))}


def start(data, *arguments: str, slow: bool = False) -> subprocess.Popen[str]:
    """`fewshot ingest` as a process; slow: each chunk takes a while, and batches are small."""
    program = "from indexer.commands.ingest import ingest\n"
    if slow:
        program += (
            "import time, indexer.ingest as i; from indexer.hash_embedder import HashEmbedder as H\n"
            "i.BATCH_CHUNKS = i.MOST_CHUNKS = 20; fast = H.passages\n"
            "H.passages = lambda self, texts: (time.sleep(0.02 * len(texts)), fast(self, texts))[1]\n"
        )
    command = [sys.executable, "-c", program + "ingest()", *arguments, "--store", "docs", "--data", str(data)]
    return subprocess.Popen(
        [*command, "--embedder", "hash"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(holds, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    return process.communicate(timeout=60)


def test_files_that_left_the_folder_leave_the_store(put, folder, catalogue, searcher):
    (folder / "deep").mkdir()
    for name in ("a.txt", "b.txt", "deep/c.txt"):
        (folder / name).write_text(f"{name} swims")
    put()
    shutil.rmtree(folder / "deep")
    (folder / "b.txt").unlink()
    gone = leave(catalogue, catalogue.store("docs"), [folder])
    assert (gone.files, gone.documents) == (2, 2)
    assert sources(catalogue) == {"a.txt": "completed"}
    assert [hit.filename for hit in searcher.search("swims", ["docs"]).hits] == ["a.txt"]
    assert leave(catalogue, catalogue.store("docs"), [folder]) is None


def test_only_the_given_folders_are_in_step(put, folder, catalogue, tmp_path):
    other = tmp_path / "documents-too"  # its path begins like the folder's
    other.mkdir()
    (other / "x.txt").write_text("x")
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    put(folder, other)
    (other / "x.txt").unlink()
    (folder / "b.txt").unlink()
    leave(catalogue, catalogue.store("docs"), [folder, folder / "a.txt"])
    assert set(sources(catalogue)) == {"a.txt", "x.txt"}


def test_a_folder_that_is_empty_of_a_sudden_empties_nothing(put, folder, catalogue):
    (folder / "a.txt").write_text("a")
    put()
    (folder / "a.txt").unlink()
    with pytest.raises(SourceMissing, match="is it mounted"):
        leave(catalogue, catalogue.store("docs"), [folder])
    folder.rmdir()
    with pytest.raises(SourceMissing, match="does not exist"):
        leave(catalogue, catalogue.store("docs"), [folder])
    assert set(sources(catalogue)) == {"a.txt"}


def test_a_renamed_file_is_found_under_its_new_name(put, folder, catalogue, searcher):
    (folder / "old.txt").write_text("Ducks swim in the pond.")
    put()
    (folder / "old.txt").rename(folder / "new.txt")
    put()
    leave(catalogue, catalogue.store("docs"), [folder])
    assert [hit.filename for hit in searcher.search("ducks", ["docs"]).hits] == ["new.txt"]
    assert sources(catalogue) == {"new.txt": "completed"}


def test_a_run_over_changed_paths_looks_at_nothing_else(put, folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "f.txt").write_text(name)
    watch = Watching()
    put(only={folder / "b"}, watch=watch)
    assert watch.names == ["b/f.txt"]


def test_a_stopped_run_publishes_what_is_at_hand_and_the_next_one_completes(put, folder, catalogue, searcher):
    rows = [json.dumps({"id": str(n), "text": f"row {n} swims"}) for n in range(30)]
    (folder / "a.jsonl").write_text("\n".join(rows))
    (folder / "b.txt").write_text("b swims")
    asked = iter([False] * 10 + [True] * 100)
    summary = put(stop=lambda: next(asked))
    assert (summary.cancelled, summary.documents) == (True, 10)
    assert sources(catalogue) == {"a.jsonl": "cancelled"}
    assert len(searcher.search("swims", ["docs"], top=50).hits) == 10
    assert put().documents == 21
    assert sources(catalogue) == {"a.jsonl": "completed", "b.txt": "completed"}
    assert list(findings(catalogue, catalogue.store("docs"))) == []


def test_why_a_file_failed_is_kept_and_shown(put, folder, catalogue, data):
    (folder / "good.txt").write_text("good")
    (folder / "empty.txt").write_text("")
    put()
    failed = {file.filename: file for file in inventory.files(catalogue, catalogue.store("docs"))}[
        "empty.txt"
    ]
    assert failed.state == "failed"
    assert failed.last_error["code"] == "invalid_file"
    shown = CliRunner().invoke(stores, ["show", "docs", "--data", str(data)]).stdout
    assert "files: 1 completed, 1 failed" in shown
    assert "empty.txt" in shown
    assert "good.txt" not in shown
    told = json.loads(
        CliRunner().invoke(stores, ["show", "docs", "--files", "--json", "--data", str(data)]).stdout
    )
    assert [(file["filename"], file["chunks"]) for file in told["files"]] == [
        ("empty.txt", 0),
        ("good.txt", 1),
    ]
    (folder / "empty.txt").write_text("not any more")
    put()
    assert [file.last_error for file in inventory.files(catalogue, catalogue.store("docs"))] == [None, None]


def test_another_process_can_ask_a_run_to_end(put, folder, catalogue):
    (folder / "a.txt").write_text("a")
    put()
    store = catalogue.store("docs")
    assert request(catalogue, store) is False
    with writer(catalogue, store):
        stop = Requested(catalogue, store)
        assert not stop()
        assert request(catalogue, store) is True
        assert stop()
    with writer(catalogue, store):
        assert not stop()  # it meant the run before


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "cancel"])
def test_a_running_ingest_ends_with_what_it_published(folder, data, how):
    rows = [json.dumps({"id": str(n), "text": f"row {n} swims"}) for n in range(400)]
    (folder / "a.jsonl").write_text("\n".join(rows))
    process = start(data, str(folder), slow=True)
    assert process.stdout.readline()
    assert "published" in process.stdout.readline()
    if how == "cancel":
        assert CliRunner().invoke(stores, ["cancel", "docs", "--data", str(data)]).exit_code == 0
    else:
        process.send_signal(getattr(signal, how))
    out, err = ended(process)
    assert process.returncode == 130, err
    assert "cancelled: that much is published" in out
    catalogue = Catalogue(data)
    counts = catalogue.counts(catalogue.store("docs"))
    assert 0 < counts.documents < 400
    assert f"{counts.documents} documents, {counts.chunks} chunks added" in out
    catalogue.close()
    assert CliRunner().invoke(stores, ["cancel", "docs", "--data", str(data)]).exit_code == 1


def test_a_watched_folder_is_followed_until_the_signal(folder, data):
    (folder / "a.txt").write_text("a swims")
    (folder / "stays.txt").write_text("stays")
    process = start(data, str(folder), "--watch", "--sync")
    catalogue = None
    try:
        until((data / "catalogue.db").exists)
        catalogue = Catalogue(data)
        until(lambda: [store for store in catalogue.stores() if catalogue.counts(store).files == 2])
        (folder / "new").mkdir()
        (folder / "new" / "b.txt").write_text("b swims")
        until(lambda: sources(catalogue).get("new/b.txt") == "completed")
        (folder / "a.txt").unlink()
        until(lambda: set(sources(catalogue)) == {"new/b.txt", "stays.txt"})
        (folder / "new" / "b.txt").write_text("")  # cannot be read, and that does not end it
        until(lambda: sources(catalogue).get("new/b.txt") == "failed")
        (folder / "new" / "b.txt").write_text("b swims again")
        until(lambda: sources(catalogue).get("new/b.txt") == "completed")
        process.send_signal(signal.SIGTERM)
        _, err = ended(process)
        assert process.returncode == 0, err
    finally:
        process.kill()
        process.wait()
        if catalogue is not None:
            catalogue.close()


def test_a_watch_goes_on_after_runs_that_fail(folder, monkeypatch):
    monkeypatch.setattr(watching, "AGAIN_SECONDS", 0.1)
    stop, complaints, runs = threading.Event(), [], []
    failing = iter([StoreBusy("busy"), StoreBusy("busy"), None, StoreBusy("busy")])

    def run(only):
        if (error := next(failing, None)) is not None:
            raise error
        runs.append(only)

    thread = threading.Thread(
        target=watching.follow, args=([folder], run, stop, complaints.append), kwargs={"quiet_ms": 50}
    )
    thread.start()
    until(lambda: runs == [None])
    (folder / "a.txt").write_text("a")
    until(lambda: len(runs) > 1)
    assert runs[1] == {folder / "a.txt"}
    assert [str(error) for error in complaints] == ["busy"] * 3
    stop.set()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_watch_waits_for_a_folder_that_is_gone(folder, monkeypatch):
    monkeypatch.setattr(watching, "AGAIN_SECONDS", 0.1)
    os.rmdir(folder)
    stop, complaints, runs = threading.Event(), [], []
    thread = threading.Thread(
        target=watching.follow, args=([folder], runs.append, stop, complaints.append), kwargs={"quiet_ms": 50}
    )
    thread.start()
    until(lambda: len(complaints) > 1)
    folder.mkdir()
    until(lambda: runs and runs[-1] is None)
    many = len(runs)
    time.sleep(0.3)
    (folder / "a.txt").write_text("a")
    until(lambda: len(runs) > many)
    stop.set()
    thread.join(timeout=10)
