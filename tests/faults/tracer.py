"""A process whose system calls are seen, and may be made its last: ptrace(2), Linux on x86-64.

The tracer stops the child at every call, its threads' included, and asks what shall become of it. Nothing is
loaded into the child: SQLite, tantivy and FAISS run as they do for users.
"""

import ctypes
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

NUMBERS = {
    "x86_64": {
        0: "read", 1: "write", 17: "pread64", 18: "pwrite64", 20: "writev", 74: "fsync", 75: "fdatasync",
        76: "truncate", 77: "ftruncate", 82: "rename", 83: "mkdir", 84: "rmdir", 86: "link", 87: "unlink",
        257: "openat", 258: "mkdirat", 263: "unlinkat", 264: "renameat", 265: "linkat", 285: "fallocate",
        296: "pwritev", 316: "renameat2",
    },
}  # fmt: skip
HERE = NUMBERS.get(platform.machine(), {}) if sys.platform == "linux" else {}
ON_DESCRIPTOR = {"read", "pread64", "write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync"}
ON_DESCRIPTOR |= {"ftruncate", "fallocate"}
ON_PATH = {"truncate", "rename", "mkdir", "rmdir", "link", "unlink"}
ON_PATH_AT = {"mkdirat", "unlinkat", "renameat", "renameat2", "linkat", "openat"}
CREATES = os.O_CREAT | os.O_TRUNC
AT_FDCWD = -100
TRACEME, SYSCALL, SETREGS, GETREGS, SETOPTIONS, GET_SYSCALL_INFO = 0, 24, 13, 12, 0x4200, 0x420E
GOOD, FORK, VFORK, CLONE, EXITKILL = 1, 2, 4, 8, 0x100000
WALL = 0x40000000
RAX, ORIG_RAX = 10, 15  # places in user_regs_struct

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


class Info(ctypes.Structure):
    """struct ptrace_syscall_info."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64),
        ("words", ctypes.c_int64 * 8),  # entry: number and arguments; exit: result
    )


@dataclass
class Call:
    """One call under the folder that is watched."""

    name: str
    path: str
    thread: int
    descriptor: int | None = None
    result: int = 0


Action = Literal["go", "kill"] | int  # an int: fail with this errno, without doing it


class Ended(NamedTuple):
    killed: bool
    error: str  # what the child raised; empty when it did its work


def traced(
    work: Callable[[], None],
    under: Path,
    entered: Callable[[Call], Action],
    left: Callable[[Call], None] = lambda _: None,
) -> Ended:
    """Do the work in a child; `entered` decides about every call that touches `under`, `left` hears results.

    For a process without other children or threads.
    """
    said, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(work, says)
    os.close(says)
    os.waitpid(pid, 0)
    _ptrace(SETOPTIONS, pid, GOOD | FORK | VFORK | CLONE | EXITKILL)
    _ptrace(SYSCALL, pid, 0)
    killed = _follow(pid, str(under), entered, left)
    with os.fdopen(said) as pipe:
        return Ended(killed, pipe.read())


def _child(work: Callable[[], None], says: int) -> None:
    try:
        libc.ptrace(TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
    except BaseException:
        os.write(says, traceback.format_exc().encode())
    finally:
        os._exit(0)


def _follow(pid: int, under: str, entered: Callable[[Call], Action], left: Callable[[Call], None]) -> bool:
    inside: dict[int, tuple[Call, Action]] = {}
    killed = False
    while True:
        thread, status = os.waitpid(-1, WALL)
        if not os.WIFSTOPPED(status):
            if thread == pid:
                return killed
            continue
        deliver = 0
        if os.WSTOPSIG(status) == signal.SIGTRAP | 0x80:
            info = Info()
            _ptrace(GET_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.addressof(info))
            if info.op == 1 and (call := _call(thread, info.words, under)):
                action = entered(call)
                if action == "kill":
                    os.kill(pid, signal.SIGKILL)
                    killed = True
                    continue
                inside[thread] = call, action
                if action != "go":
                    _set(thread, ORIG_RAX, -1)  # no call of that number
            elif info.op == 2 and thread in inside:
                call, action = inside.pop(thread)
                call.result = info.words[0]
                if action != "go":
                    call.result = -int(action)
                    _set(thread, RAX, call.result)
                left(call)
        elif os.WSTOPSIG(status) not in (signal.SIGTRAP, signal.SIGSTOP):
            deliver = os.WSTOPSIG(status)
        _ptrace(SYSCALL, thread, 0, deliver)


def _call(thread: int, words: "ctypes.Array[ctypes.c_int64]", under: str) -> Call | None:
    """The call if it is one of those above and touches the folder."""
    name = HERE.get(words[0])
    if name is None:
        return None
    first = ctypes.c_int32(words[1]).value
    if name in ON_DESCRIPTOR:
        path, descriptor = _opened(thread, first), first
    elif name in ON_PATH:
        path, descriptor = _string(thread, words[1]), None
    elif name in ON_PATH_AT:
        path, descriptor = os.path.join(_opened(thread, first), _string(thread, words[2])), None
        if name == "openat" and not words[3] & CREATES:
            return None
    else:
        return None
    return Call(name, path, thread, descriptor) if path.startswith(under) else None


def _opened(thread: int, descriptor: int) -> str:
    try:
        where = "cwd" if descriptor == AT_FDCWD else f"fd/{descriptor}"
        return os.readlink(f"/proc/{thread}/{where}")
    except OSError:
        return ""


def _string(thread: int, address: int) -> str:
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        said = b""
        while b"\0" not in said and len(said) < 4096:
            said += memory.read(min(256, 4096 - (address + len(said)) % 4096))  # not beyond its page
    return said.split(b"\0", 1)[0].decode(errors="replace")


def _set(thread: int, register: int, value: int) -> None:
    registers = (ctypes.c_int64 * 27)()
    _ptrace(GETREGS, thread, 0, ctypes.addressof(registers))
    registers[register] = value
    _ptrace(SETREGS, thread, 0, ctypes.addressof(registers))


def _ptrace(request: int, thread: int, address: int, data: int = 0) -> None:
    if request == SETOPTIONS:
        address, data = 0, address
    if libc.ptrace(request, thread, address, data) < 0 and ctypes.get_errno() != 3:  # ESRCH: just killed
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


def possible() -> bool:
    """Whether children can be traced here."""
    if not HERE:
        return False
    try:
        return traced(lambda: None, Path("/nowhere"), lambda _: "go") == Ended(False, "")
    except OSError:
        return False
