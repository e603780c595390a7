"""Between two steps vLLM's processes sleep, on a processor.

On a processor vLLM keeps the model in a process beside the engine's, and each hands the other its messages
through shared memory. Whoever waits for one looks again and again, for a second after the last one, before it
sleeps (`SpinCondition`). Between GPUs that saves microseconds of a step. On a processor a step takes
milliseconds, and looking takes a core from the model, from the search and from this server: the engine's
process looks while the model is computed, the model's while nothing is.

vLLM calls `sleep` in each of its processes: pyproject.toml registers it as a plugin of vLLM.
"""

import time
from typing import Any

NAP_MS = 1


def sleep() -> None:
    """Wait for messages asleep from the first moment; nothing where models do not run on a processor."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.distributed.device_communicators import shm_broadcast

    waking = getattr(shm_broadcast, "SpinCondition", None)  # not in every version
    if isinstance(waking, type):
        shm_broadcast.SpinCondition = asleep(waking)  # type: ignore[misc]


def asleep(waking: Any) -> Any:
    """vLLM's `SpinCondition` without its spinning."""
    import zmq

    class Asleep(waking):  # type: ignore[misc]
        def wait(self, timeout_ms: int | None = None) -> None:
            """Until there is notice of a message; at most `NAP_MS` where vLLM would not sleep yet.

            vLLM can afford to lose a notice, because it looks for itself while messages come often.
            """
            awake = self.last_read + self.busy_loop_s
            if time.monotonic() <= awake:
                timeout_ms = NAP_MS if timeout_ms is None else min(timeout_ms, NAP_MS)
            events = dict(self.poller.poll(timeout=timeout_ms))
            if self.local_notify_socket in events:
                self.local_notify_socket.recv(flags=zmq.NOBLOCK, copy=False)

        def notify(self) -> None:
            """Tell all readers."""
            # A place for one notice, and zmq looks once in a millisecond whether the last one has left it,
            # unless it is asked: the second of two in a row was dropped, and its reader slept on.
            self.local_notify_socket.getsockopt(zmq.EVENTS)
            waking.notify(self)

    return Asleep
