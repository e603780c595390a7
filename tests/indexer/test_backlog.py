"""The backlog ends soon, loses nothing, waits for others and fails no file but the bad one."""

import errno
import threading
import time

import pytest

from indexer import attachments, ownership, uploads
from indexer.attachments import Wish, attach
from indexer.backlog import Backlog
from indexer.database import writing
from indexer.embedders import Embedders
from indexer.errors import BacklogFull
from indexer.hash_embedder import HashEmbedder
from indexer.publishing import writer
from indexer.reading.reader import read

TENANT = "local"


class Slow(HashEmbedder):
    """Takes its time, and says when it began."""

    def __init__(self, seconds):
        super().__init__(64, 64)
        self._seconds = seconds
        self.begun = threading.Event()

    def passages(self, texts):
        self.begun.set()
        time.sleep(self._seconds)
        return super().passages(texts)


class Full(HashEmbedder):
    """Works on a disk that is full at first."""

    def __init__(self, times):
        super().__init__(64, 64)
        self.left = times

    def passages(self, texts):
        if self.left:
            self.left -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().passages(texts)


class Here:
    def __call__(self, data, name, first_line=1):
        return read(data, name, first_line)

    def close(self):
        return None


def put(catalogue, embedder, *texts):
    """A store and its attached, still unread files."""
    ids = []
    for text in texts:
        with uploads.receiving(catalogue) as incoming:
            incoming.write(text.encode())
            kept = uploads.keep(catalogue, incoming, tenant=TENANT, filename="a.txt", purpose="assistants")
            ids.append(kept.id)
    with writing(catalogue.engine) as connection:
        about = {"label": None, "description": None, "metadata": {}, "expires_days": None}
        store = ownership.create(connection, embedder, tenant=TENANT, **about)
        wishes = [Wish(one) for one in ids]
        attach(connection, ownership.owned(connection, TENANT, store), TENANT, wishes, window=64)
    return store, ids


def states(catalogue, store, ids):
    return [attachments.find(catalogue, TENANT, store, one).state for one in ids]


def until(condition):
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_it_ends_in_the_middle_of_a_batch_and_goes_on_from_there(catalogue):
    slow = Slow(0.3)
    long = "\n\n".join(f"Paragraph {n} " + "with many words " * 12 for n in range(2000))
    store, ids = put(catalogue, slow, long)
    backlog = Backlog(catalogue, Embedders(None, slow), Here)
    backlog.start()
    assert slow.begun.wait(30)
    began = time.monotonic()
    backlog.close()
    assert time.monotonic() - began < 5
    assert states(catalogue, store, ids) == ["in_progress"]
    again = Backlog(catalogue, Embedders(None, HashEmbedder(64, 64)), Here)
    again.start()
    until(lambda: states(catalogue, store, ids) == ["completed"])
    again.close()


def test_it_waits_while_a_command_writes_to_the_store(catalogue):
    embedder = HashEmbedder(64, 64)
    store, ids = put(catalogue, embedder, "green tea")
    backlog = Backlog(catalogue, Embedders(None, embedder), Here)
    with writer(catalogue, catalogue.store(store)):
        backlog.start()
        time.sleep(0.3)
        assert states(catalogue, store, ids) == ["in_progress"]
        count, oldest = backlog.waiting()
        assert count == 1
        assert 0.3 <= oldest < 60
    until(lambda: states(catalogue, store, ids) == ["completed"])
    assert backlog.waiting() == (0, 0.0)
    backlog.close()


def test_what_was_accepted_waits_for_space_on_a_full_disk(catalogue):
    full = Full(2)
    store, ids = put(catalogue, full, "green tea", "black tea")
    backlog = Backlog(catalogue, Embedders(None, full), Here)
    backlog.start()
    until(lambda: full.left == 0)
    until(lambda: states(catalogue, store, ids) == ["completed", "completed"])
    backlog.close()


def test_a_store_whose_model_is_gone_fails_its_files_and_says_why(catalogue):
    store, ids = put(catalogue, HashEmbedder(32, 64), "green tea")
    other, others = put(catalogue, HashEmbedder(64, 64), "black tea")
    backlog = Backlog(catalogue, Embedders(None, HashEmbedder(64, 64)), Here)
    backlog.start()
    until(lambda: states(catalogue, other, others) == ["completed"])
    until(lambda: states(catalogue, store, ids) == ["failed"])
    error = attachments.find(catalogue, TENANT, store, ids[0]).last_error
    assert error["code"] == "server_error"
    backlog.close()


def test_more_files_than_may_wait_are_refused_whole(catalogue):
    embedder = HashEmbedder(64, 64)
    store, ids = put(catalogue, embedder, "green tea")
    with writing(catalogue.engine) as connection:
        mine = ownership.owned(connection, TENANT, store)
        with pytest.raises(BacklogFull):
            attach(connection, mine, TENANT, [Wish(ids[0])], window=64, most_waiting=1)
