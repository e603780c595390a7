"""Free memory goes back to the system, also from the middle of the heap."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import threading
from server import heap
from bench.processor import memory_mb
import os

assert heap.share() is True

def fill():
    # Blocks that the C library holds itself, too small for pages of their own; the last one stays.
    held = [bytearray(2000) for _ in range(15_000)]
    kept.append(held[-1])

kept = []
threads = [threading.Thread(target=fill) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
before = memory_mb(os.getpid())
assert heap.give_back() is True
print(before - memory_mb(os.getpid()))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other heaps")
def test_what_threads_have_freed_goes_back():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 10
