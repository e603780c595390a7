"""An environment for each framework, made from its pinned requirements and used again."""

import hashlib
import os
import subprocess
import venv
from pathlib import Path

from bench.records import NotMeasured

HERE = Path(__file__).parent
PLACE = Path("build/frameworks")


def python_of(name: str, place: Path = PLACE) -> Path:
    """The interpreter of the environment with `<name>.txt`, made when there is none of these pins.

    Raises NotMeasured where the packages cannot be had.
    """
    pins = HERE / f"{name}.txt"
    folder = (place / name).absolute()
    python, stamp = folder / "bin" / "python", folder / "pins.sha256"
    wanted = hashlib.sha256(pins.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "-q", "--no-deps", "-r", str(pins)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotMeasured(f"{name} could not be installed from {pins}: {done.stderr[-600:]}")
        stamp.write_text(wanted)
    return python


def bare_environment() -> dict[str, str]:
    """Nothing of this project's environment: neither its packages nor what would send telemetry."""
    kept = {name: value for name in ("PATH", "HOME", "LANG", "TMPDIR") if (value := os.environ.get(name))}
    return {**kept, "OMP_NUM_THREADS": "1", "ANONYMIZED_TELEMETRY": "False", "DO_NOT_TRACK": "1"}
