"""A server, or readers, whose every file written and every connection made outside is written down.

python -m tests.server.outside LOG serve --echo …       the command line, watched
python -m tests.server.outside LOG read FOLDER          every file of a folder, read without the sandbox
"""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = {
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
}
LOOPBACK = ("127.", "::1", "localhost")


def watch(log: Path) -> None:
    """From here on, a JSON line for everything that leaves the data folder or this machine."""
    allowed = (os.environ.get("FEWSHOT_DATA_DIR", "/nowhere"), "/dev/", "/proc/self/")
    lines = log.open("a", buffering=1)

    def away(path: Any, folder: int = -1) -> bool:
        """Whether a path leads out, relative to an open folder if there is one, as in `rmtree`."""
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if name and folder >= 0:
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
        return bool(name) and not os.path.abspath(name).startswith(allowed)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        match event, arguments:
            case "open", (path, mode, flags) if away(path):
                wrote = bool((flags or 0) & WRITES) or any(letter in str(mode or "") for letter in "wax+")
                if wrote:
                    lines.write(json.dumps(["write", os.fsdecode(path)]) + "\n")
            case "os.remove" | "os.rmdir" as name, (path, int(folder)) if away(path, folder):
                lines.write(json.dumps([name, os.fsdecode(path)]) + "\n")
            case "os.mkdir" as name, (path, _, int(folder)) if away(path, folder):
                lines.write(json.dumps([name, os.fsdecode(path)]) + "\n")
            case "os.rename" as name, (old, new, int(start), int(end)) if away(old, start) or away(new, end):
                lines.write(json.dumps([name, os.fsdecode(old), os.fsdecode(new)]) + "\n")
            case name, (path, *_) if name in CHANGES and away(path):
                lines.write(json.dumps([name, os.fsdecode(path)]) + "\n")
            case "socket.connect" | "socket.sendto", (_, address) if isinstance(address, tuple):
                if not str(address[0]).startswith(LOOPBACK):
                    lines.write(json.dumps(["connect", str(address)]) + "\n")
            case "socket.getaddrinfo", (host, *_) if not str(host).startswith(LOOPBACK):
                lines.write(json.dumps(["resolve", str(host)]) + "\n")
            case "os.system" | "os.exec" | "os.posix_spawn" | "pty.spawn", _:
                lines.write(json.dumps([event, str(arguments)]) + "\n")

    sys.addaudithook(hook)


def main() -> None:
    log, command, *rest = sys.argv[1:]
    sys.dont_write_bytecode = True
    if command == "read":
        from indexer.errors import IndexerError
        from indexer.reading.reader import read

        for turn in (1, 2):  # the first imports what reads lazily
            for path in sorted(Path(rest[0]).iterdir()):
                with suppress(IndexerError):
                    read(path.read_bytes(), path.name)
            if turn == 1:
                watch(Path(log))
        return
    from server.cli import main as cli

    watch(Path(log))
    cli([command, *rest])


if __name__ == "__main__":
    main()
