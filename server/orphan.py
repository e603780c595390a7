"""An engine ends with the process that started it, however that one ended.

vLLM runs the engine and its workers as processes of their own. Their owner tells them to stop; one that was
killed cannot, and gigabytes would stay taken until somebody looks. vLLM calls `watch` in each of them:
pyproject.toml registers it as a plugin of vLLM.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time

OWNER = "FEWSHOT_ENGINE_OWNER"  # environment: the id of the process that started the engine
POLL_SECONDS = 2.0


def watch() -> None:
    """Kill this process as soon as the owner is gone; nothing where there is none, or in the owner itself."""
    owner = os.environ.get(OWNER, "")
    if owner.isdecimal() and int(owner) != os.getpid():
        threading.Thread(target=_end_with, args=(int(owner),), name="engine-owner", daemon=True).start()


def _end_with(owner: int) -> None:
    try:
        watched = os.pidfd_open(owner)  # bound to the process itself: its number may be given out again
        select.select([watched], [], [])
    except ProcessLookupError:
        pass
    except (AttributeError, OSError):  # not Linux, or an old kernel
        _poll(owner)
    os.kill(os.getpid(), signal.SIGKILL)  # a busy engine does not get round to a kind signal


def _poll(owner: int) -> None:
    while True:
        try:
            os.kill(owner, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            pass
        time.sleep(POLL_SECONDS)
