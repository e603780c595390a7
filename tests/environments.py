"""Environments of other programs, made once from a lock file of deploy/clients and used again."""

import fcntl
import hashlib
import subprocess
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python_of(name: str) -> Path:
    """The interpreter of an environment with deploy/clients/<name>.lock, under build/clients."""
    lock = ROOT / "deploy" / "clients" / f"{name}.lock"
    folder = ROOT / "build" / "clients" / name
    python, stamp = folder / "bin" / "python", folder / "lock.sha256"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.busy").open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != wanted:
            venv.create(folder, clear=True, with_pip=True)
            command = [str(python), "-m", "pip", "install", "--no-deps", "--require-hashes", "-r", str(lock)]
            done = subprocess.run([*command, "-q"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{name} needs a package index: {done.stderr[-2_000:]}"
            stamp.write_text(wanted)
    return python


def spoken(python: Path, script: Path, *arguments: str, seconds: float = 600, **env: str) -> str:
    """What the script said, in an environment of its own: nothing of this one's is on its path."""
    done = subprocess.run(
        [str(python), str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(script.parent), **env},
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4_000:]}\n{done.stderr[-8_000:]}"
    return done.stdout
