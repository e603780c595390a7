"""Pack what a GPU host without a network lacks, in parts small enough to carry.

    python -m deploy.gpu.make_bundle OUT [--host host.txt] [--vllm 0.25.1] [--faiss cpu|gpu] [--with PACKAGE]

Follows what Fewshot asks for (pyproject.toml: its own dependencies and the extra `gpu`), leaves out what the
host has already (`pip freeze` of it), downloads wheels for the host's Python, lays them open in one folder
without what a text server on a Hopper card never loads, and writes OUT/part.00, OUT/part.01 … with
OUT/SHA256. On the host: append the parts to one file, `unpack.sh FILE SITE` (docs/gpu-host.md).

Needs pip, packaging, xz, a package index and 2 GB of disk.
"""

import argparse
import email
import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PART_BYTES = 58 * 2**20
PYTHON = "3.12"
# What vLLM asks for and a text server on a Hopper card runs without, given VLLM_USE_FLASHINFER_SAMPLER=0:
# kernels for other cards and models, video, audio. torch, triton, numba, numpy and NVIDIA's libraries are the
# host's own build, whatever version vLLM's metadata names.
HOSTS_OR_NOBODYS = """
    torch torchaudio torchcodec torchvision triton numba llvmlite numpy setuptools certifi
    flashinfer-cubin flashinfer-python humming-kernels nvidia-cublas nvidia-cuda-runtime nvidia-cudnn-frontend
    nvidia-curand nvidia-cutlass-dsl nvidia-nvjitlink pynvvideocodec quack-kernels tilelang
    tokenspeed-mla
"""
NEVER = frozenset(HOSTS_OR_NOBODYS.split())
# vllm 0.25.1 pins a tvm-ffi that is too old for the xgrammar it asks for.
INSTEAD = {"apache-tvm-ffi": "apache-tvm-ffi==0.1.15.post2"}
# Of every wheel: what only people read, or only other cards and Pythons load.
STRIPPED = re.compile(
    r"vllm/(vllm_flash_attn/_vllm_fa2_C|vllm-rs|_qutlass_C|_flashmla|third_party/(fmha_sm100|deep_gemm|flashmla)/)"
    r"|.*/(tests?|testing/data)/.*\.(png|jpg|bin|pdf|json)$|.*\.(pyi|lib|a)$"
    r"|pycountry/locales/|(scipy|numpy|langsmith|mistral_common)/(.*/)?tests/"
)
# Mixture-of-experts kernels: a quarter of vLLM. `--dense` leaves them out too.
EXPERTS = re.compile(r"vllm/_moe_C")
GLIBC = (39, 36, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
MARKERS = {
    "extra": "",
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": f"{PYTHON}.0",
    "python_version": PYTHON,
    "sys_platform": "linux",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the parts")
    parser.add_argument("--host", type=Path, default=HERE / "host.txt", help="the host's `pip freeze`")
    parser.add_argument("--vllm", default="0.25.1", help="the vLLM built for the host's torch")
    parser.add_argument("--faiss", choices=("cpu", "gpu"), default="cpu", help="gpu: six parts more")
    parser.add_argument("--dense", action="store_true", help="without the kernels of mixtures of experts")
    parser.add_argument("--with", dest="more", action="append", default=[], help="one package more")
    options = parser.parse_args()
    wheels, site = options.out / "wheels", options.out / "site"
    shutil.rmtree(site, ignore_errors=True)
    for folder in (wheels, site):
        folder.mkdir(parents=True, exist_ok=True)
    wanted = [*own_requirements(options.vllm, options.faiss), *map(Requirement, options.more)]
    packed = list(fetched(wanted, frozen(options.host), wheels))
    for wheel in packed:
        lay_open(wheel, site, dense=options.dense)
    say("compressing, a minute or more")
    for part in parts(site, options.out):
        say(f"{part}  {part.stat().st_size / 2**20:.1f} MiB")
    return 0


def own_requirements(vllm: str, faiss: str) -> Iterator[Requirement]:
    """What pyproject.toml asks for on a GPU host, with the host's vLLM and the chosen FAISS."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    instead = {"vllm": f"vllm=={vllm}"} | ({"faiss-gpu-cuvs": "faiss-cpu==1.15.1"} if faiss == "cpu" else {})
    for line in (*project["dependencies"], *project["optional-dependencies"]["gpu"]):
        wanted = Requirement(line)
        yield Requirement(instead.get(canonicalize_name(wanted.name), str(wanted)))


def frozen(file: Path) -> dict[str, str]:
    """Name → version, of a `pip freeze` or a lock file."""
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", file.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def fetched(wanted: Sequence[Requirement], have: dict[str, str], into: Path) -> Iterator[Path]:
    """Wheels of everything asked for that the host lacks. Raises SystemExit naming what cannot be had."""
    queue, seen, locked = list(wanted), set[str](), frozen(ROOT / "deploy/cpu.lock")
    while queue:
        want = queue.pop(0)
        name = canonicalize_name(want.name)
        fits = name in have and want.specifier.contains(have[name], prereleases=True)
        if fits or name in NEVER or name in seen:
            continue
        seen.add(name)
        spec = spelled(want)
        if name in locked and want.specifier.contains(locked[name], prereleases=True):
            spec = f"{name}=={locked[name]}"  # what the tests run with
        wheel = download(INSTEAD.get(name, spec), into)
        say(f"{wheel.name}  {wheel.stat().st_size / 2**20:.1f} MiB")
        yield wheel
        queue += requirements_of(wheel, want.extras)


def spelled(want: Requirement) -> str:
    """As pip finds it: NVIDIA's wheels ask for `26.06.*` of each other, and no 26.6.0 is that to pip."""
    return want.name + re.sub(r"(?<![\w])0+(?=\d)", "", str(want.specifier))


def download(spec: str, into: Path) -> Path:
    place = into / hashlib.sha256(spec.encode()).hexdigest()[:16]  # a second run finds them here
    if not list(place.glob("*.whl")):
        chosen = [word for platform in PLATFORMS for word in ("--platform", platform)]
        kinds = [word for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        asked = [*command, "--python-version", PYTHON, "--implementation", "cp", *kinds, *chosen]
        done = subprocess.run([*asked, "--dest", str(place), spec], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"no wheel of {spec} for Python {PYTHON}:\n{done.stderr.strip()[-500:]}")
    return next(place.glob("*.whl"))


def requirements_of(wheel: Path, extras: set[str]) -> Iterator[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    for wanted in map(Requirement, lines):
        if wanted.marker is None or any(
            wanted.marker.evaluate({**MARKERS, "extra": extra}) for extra in {"", *extras}
        ):
            yield wanted


def lay_open(wheel: Path, site: Path, *, dense: bool) -> None:
    """A wheel's files as pip would put them into a folder of packages; its commands are left out."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir() or STRIPPED.match(member.filename):
                continue
            if dense and EXPERTS.match(member.filename):
                continue
            parts = PurePosixPath(member.filename).parts
            if parts[0].endswith(".data"):
                if parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            if ".." in parts or PurePosixPath(member.filename).is_absolute():
                raise SystemExit(f"{wheel.name} would write outside its folder: {member.filename}")
            target = site.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)


def parts(site: Path, out: Path) -> Iterator[Path]:
    """`site` as tar.xz, cut."""
    for old in out.glob("part.*"):
        old.unlink()
    digest = hashlib.sha256()
    command = ["tar", "--sort=name", "--owner=0", "--group=0", "--mtime=@0", "-C", str(site), "-cf", "-", "."]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as tar,
        subprocess.Popen(["xz", "-3", "-T2", "-c"], stdin=tar.stdout, stdout=subprocess.PIPE) as xz,
    ):
        assert xz.stdout is not None
        for number, block in enumerate(iter(lambda: xz.stdout.read(PART_BYTES), b"")):  # type: ignore[union-attr]
            digest.update(block)
            part = out / f"part.{number:02d}"
            part.write_bytes(block)
            yield part
    if tar.returncode or xz.returncode:
        raise SystemExit("tar or xz failed; is the disk full?")
    (out / "SHA256").write_text(f"{digest.hexdigest()}\n")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
