"""Who waits for a message of vLLM's shared memory sleeps, and is woken."""

import threading
import time
from importlib.metadata import entry_points

import pytest

from server.vllm_decoder import sleeping

MESSAGES = 200
WITHIN = 4.0  # seconds: a notice that is lost is made up for by vLLM after five


@pytest.fixture
def queues(monkeypatch):
    """(writer, reader) as vLLM makes them in two processes."""
    from vllm.distributed.device_communicators import shm_broadcast

    monkeypatch.setattr(shm_broadcast, "SpinCondition", shm_broadcast.SpinCondition)  # put back afterwards
    sleeping.sleep()
    writer = shm_broadcast.MessageQueue(1, 1)
    reader = shm_broadcast.MessageQueue.create_from_handle(writer.export_handle(), 0)
    ready = threading.Thread(target=writer.wait_until_ready)
    ready.start()
    reader.wait_until_ready()
    ready.join()
    yield writer, reader
    reader.shutdown()
    writer.shutdown()


def test_a_reader_takes_no_processor_time_between_messages_that_come_often(queues):
    writer, reader = queues
    writer.enqueue("first")
    reader.dequeue(timeout=WITHIN)
    began = time.thread_time()
    with pytest.raises(TimeoutError):
        reader.dequeue(timeout=0.5)  # vLLM's own reader spins all of it
    assert time.thread_time() - began < 0.25


def test_every_message_wakes_its_reader_however_close_they_come(queues):
    writer, reader = queues

    def write():
        for number in range(MESSAGES):
            writer.enqueue(number)
            if number % 3 == 2:  # some in a row, some after the reader went to sleep
                time.sleep(0.003)

    writing = threading.Thread(target=write)
    writing.start()
    found = [reader.dequeue(timeout=WITHIN) for _ in range(MESSAGES)]
    writing.join()
    assert found == list(range(MESSAGES))


def test_the_reader_is_told_to_stop(queues):
    _, reader = queues
    threading.Timer(0.05, reader.shutdown).start()
    with pytest.raises(RuntimeError, match="cancelled"):
        reader.dequeue(timeout=WITHIN)


def test_vllm_is_told():
    (ours,) = [one for one in entry_points(group="vllm.general_plugins") if one.name == "fewshot-sleep"]
    assert ours.load() is sleeping.sleep
