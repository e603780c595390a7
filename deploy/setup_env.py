"""Make or renew the project's virtual environment from the lock files, saying what is missing.

    python3 deploy/setup_env.py .venv          what serving needs
    python3 deploy/setup_env.py .venv --dev    and what the tests need

Standard library only: it runs before anything is installed. A finished environment is stamped with the
digest of its lock files; when nothing changed, the next call returns at once.
"""

import argparse
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"cpu": ROOT / "deploy/cpu.lock", "dev": ROOT / "deploy/dev.lock"}
TORCH = ROOT / "deploy/torch-cpu.lock"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"  # where ordinary machines find the CPU build
OLDEST, NEWEST = (3, 11), (3, 13)
DISK_GB = 6.0
DOWNLOAD_SIZE = re.compile(r"Downloading .*\(([\d.]+) (kB|MB|GB)\)")


class Missing(Exception):
    """Something this machine lacks; the message says what and how to get it."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the environment lives")
    parser.add_argument("--dev", action="store_true", help="also what the tests and checks need")
    options = parser.parse_args()
    try:
        set_up(options.folder, dev=options.dev)
    except Missing as problem:
        say(f"set-up cannot go on: {problem}")
        return 1
    return 0


def set_up(folder: Path, *, dev: bool) -> None:
    """Raises Missing."""
    stamp = folder / "fewshot-setup.json"
    parts = ["cpu", "dev"] if dev else ["cpu"]
    wanted = {part: digest(LOCKS[part], TORCH, ROOT / "pyproject.toml") for part in parts}
    done = json.loads(stamp.read_text()) if stamp.is_file() else {}
    if all(done.get(part) == wanted[part] for part in parts):
        return
    check_machine(folder)
    began = time.monotonic()
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"making the environment {folder} with Python {platform.python_version()}")
        venv.create(folder, with_pip=True)
    megabytes = 0.0
    if done.get("cpu") != wanted["cpu"]:
        stamp.unlink(missing_ok=True)
        megabytes += install_torch(python)
        megabytes += install(python, "serving", ["--require-hashes", "-r", str(LOCKS["cpu"])])
    if dev:
        megabytes += install(python, "tests and checks", ["--require-hashes", "-r", str(LOCKS["dev"])])
    install(python, "fewshot itself", ["--no-build-isolation", "-e", str(ROOT)], quiet=True)
    stamp.write_text(json.dumps({**done, **wanted}))
    say(f"environment ready after {time.monotonic() - began:.0f} s, {megabytes:.0f} MB downloaded")


def check_machine(folder: Path) -> None:
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        raise Missing(
            f"Python {version[0]}.{version[1]} is too {'old' if version < OLDEST else 'new'}; 3.11 to 3.13 "
            "are supported. Install one and run `make PYTHON=python3.12 …`"
        )
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise Missing(
            f"the pinned vLLM build is for Linux on x86_64 or aarch64, this is {sys.platform} on "
            f"{platform.machine()}. Use a Linux machine or container"
        )
    place = folder if folder.exists() else folder.absolute().parent
    free = shutil.disk_usage(place).free / 1e9
    if free < DISK_GB:
        raise Missing(f"{free:.1f} GB free in {place}, {DISK_GB:.0f} GB needed. Free some, or move the clone")


def install_torch(python: Path) -> float:
    """The CPU build: from where pip is set up to look, else from PyTorch's own index."""
    torch = ["-r", str(TORCH)]
    try:
        return install(python, "torch (CPU build)", torch)
    except Missing:
        say("torch's CPU build is not where pip looks by default; asking PyTorch's own index for CPU wheels")
        return install(python, "torch (CPU build)", [*torch, "--index-url", TORCH_INDEX])


def install(python: Path, what: str, arguments: list[str], *, quiet: bool = False) -> float:
    """One pip run with a line of progress; returns megabytes downloaded. Raises Missing with pip's reason.

    Everything is pinned and complete, so `--no-deps`; wheels only, so no compiler is ever needed.
    """
    wheels_only = [] if quiet else ["--only-binary", ":all:"]
    command = [str(python), "-m", "pip", "install", "--no-deps", "--no-input", "--disable-pip-version-check"]
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, "--progress-bar", "off", *wheels_only, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    megabytes, packages = 0.0, 0
    last: list[str] = []
    for line in process.stdout:
        last = [*last[-20:], line.rstrip()]
        if line.startswith("Collecting"):
            packages += 1
            progress(f"{what}: {packages} packages, {megabytes:.0f} MB")
        elif found := DOWNLOAD_SIZE.search(line):
            megabytes += float(found[1]) * {"kB": 0.001, "MB": 1.0, "GB": 1000.0}[found[2]]
        elif line.startswith("Installing collected"):
            progress(f"{what}: unpacking {packages} packages")
    if process.wait():
        reasons = [line for line in last if "ERROR" in line] or last[-3:]
        raise Missing(
            f"pip could not install {what}:\n  " + "\n  ".join(reasons) + "\nIt needs a network and a "
            "package index with them (`pip config list` shows yours); then run the same command again"
        )
    progress("")
    say(f"{what}: done in {time.monotonic() - began:.0f} s")
    return megabytes


def digest(*files: Path) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def progress(line: str) -> None:
    """One line that rewrites itself on a terminal; nothing elsewhere."""
    if sys.stdout.isatty():
        sys.stdout.write(f"\r\033[K{line}")
        sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
