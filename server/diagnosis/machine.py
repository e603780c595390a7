"""Processor, memory, disk, ports, cards: whether this machine carries what the settings ask of it."""

import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from indexer.machine import cores, memory_bytes
from server.diagnosis.findings import Finding, fail, ok, warn
from server.settings import Settings

GIB = 2**30
LITTLE_DISK, NO_DISK = 5 * GIB, GIB
FEW_FILES = 1024
KV_CPU = GIB  # the engine's cache on a processor, where no setting says otherwise
# Where two machines may hold the same file, or locks mean little: SQLite's WAL loses writes there.
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "ceph", "glusterfs", "fuse.sshfs", "lustre"}
_HALF_BY_HEART = ("avx512_bf16", "amx_bf16")


def machine(settings: Settings, model: Path | None) -> Iterator[Finding]:
    """All of them. `model` is the folder of the engine's model, if it is one."""
    yield processor(_flags(), settings.engine.dtype)
    cards = _cards()
    yield card(cards, settings.engine.kind == "vllm")
    if cards and settings.engine.kind == "vllm" and not _for_processor():
        pipes = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
        yield sharing(pipes, settings.retrieval.device, len(cards))
    yield memory(settings, model, memory_bytes())
    yield disk(settings.paths.data)
    yield file_system(settings.paths.data, Path("/proc/mounts"))
    yield files(resource.getrlimit(resource.RLIMIT_NOFILE)[1], settings.connections.most)
    yield port(settings.server.host, settings.server.port, "port")
    if not settings.loopback and settings.server.metrics_port:
        yield port("127.0.0.1", settings.server.metrics_port, "metrics port")


def processor(flags: set[str], dtype: str) -> Finding:
    """Cores, and which numbers an engine on the processor should use."""
    many = cores()
    able = sorted(flags.intersection(_HALF_BY_HEART))
    found = f"{many} cores, "
    if able:
        found += f"{able[0]}: engine.dtype = bfloat16 is worth a comparison with auto, which is float32"
        return ok("processor", found)
    found += "neither AVX512-BF16 nor AMX: an engine here runs in float32"
    if dtype in ("bfloat16", "float16"):
        way = "set engine.dtype = auto, unless the engine runs on a card"
        return warn("processor", f"{found}, {dtype} would be emulated, about five times slower", way)
    return ok("processor", found)


def _cards() -> list[str]:
    """What nvidia-smi says of each card: name, driver, free memory."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.free", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def card(cards: Sequence[str], engine: bool) -> Finding:
    """NVIDIA cards, and whether this vLLM is the build for them."""
    for_processor = _for_processor()
    if cards and engine and for_processor:
        return warn("card", f"{'; '.join(cards)}, unused: torch is a build for the processor",
                    "install fewshot[gpu] in an environment of its own")  # fmt: skip
    if not cards and engine and not for_processor:
        return fail("card", "none, and torch is a build for cards",
                    "check the driver with nvidia-smi, or install fewshot[cpu]")  # fmt: skip
    return ok("card", "; ".join(cards) or "none: engine and embedder run on the processor")


def _for_processor() -> bool:
    """Whether torch is a build that uses no card, or is not here at all."""
    from server.diagnosis.software import installed

    return "+cpu" in (installed("torch") or "+cpu")


def sharing(pipes: Path, device: str, cards: int) -> Finding:
    """Whether engine, embedder and search work on a card at once; `pipes` is where MPS would listen.

    `device` is where the search is, and the engine is on the first of the cards.
    """
    if device not in ("auto", "cuda", "cuda:0"):
        return ok("card sharing", f"none: the engine is on cuda:0, the search on {device}")
    if (pipes / "control").exists():
        return ok("card sharing", "by MPS: the engine and a search work on it at once")
    way = "start the server by deploy/gpu/shared.sh (docs/gpu-host.md says what it costs)"
    if cards > 1:
        way = f"set retrieval.device = cuda:1, or {way}"
    return warn("card sharing", "in turn: beside the engine each call of a search waits some 5 ms", way)


def memory(settings: Settings, model: Path | None, available: int) -> Finding:
    """Whether the model and its cache fit, roughly: what else a process holds is taken as 1 GiB."""
    found = f"{available / GIB:.1f} GiB"
    if settings.engine.kind != "vllm" or model is None:
        return ok("memory", found)
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    needed = weights + (settings.engine.kv_cache_bytes or KV_CPU) + GIB
    needed += settings.adapters.full_models * (weights + settings.adapters.full_kv_cache_bytes + GIB)
    found += f", about {needed / GIB:.1f} GiB needed"
    if needed > available:
        return fail("memory", found, "choose a smaller engine.model or engine.kv_cache_bytes")
    return ok("memory", found)


def disk(data: Path) -> Finding:
    """Space where stores and journal grow."""
    folder = _there(data)
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free in {data}"
    if not os.access(folder, os.W_OK):
        return fail("disk", f"{folder} may not be written", "change its owner, or set paths.data")
    if free < NO_DISK:
        return fail("disk", found, "free some: a publication needs room for a copy of what it merges")
    if free < LITTLE_DISK:
        return warn("disk", found, "free some before large corpora go in")
    return ok("disk", found)


def file_system(data: Path, mounts: Path) -> Finding:
    """Whether SQLite's log is safe there; `mounts` is /proc/mounts or a file like it."""
    folder = _there(data)
    best, kind = "", "unknown"
    for line in mounts.read_text().splitlines() if mounts.exists() else []:
        _, point, this, *_ = line.split()
        point = point.replace("\\040", " ")
        if len(point) >= len(best) and folder.is_relative_to(point):
            best, kind = point, this
    if kind in NETWORK:
        way = "set paths.data to a local disk; stores are shared by `fewshot catalogue move`"
        return fail("file system", f"{data} is on {kind}: SQLite can lose writes there", way)
    return ok("file system", kind)


def files(limit: int, connections: int) -> Finding:
    """Open files a server may hold: a connection each, and the segments. It raises its own soft limit."""
    needed = connections + FEW_FILES
    if limit != resource.RLIM_INFINITY and limit < needed:
        way = f"ulimit -Hn {needed} or more (LimitNOFILE=), or a smaller connections.most"
        return warn("open files", f"at most {limit}", way)
    return ok("open files", "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit}")


def port(host: str, number: int, name: str) -> Finding:
    """Whether the port is free, or held by a Fewshot already."""
    where = f"{host}:{number}"
    if number == 0:
        return ok(name, "any that is free")
    try:
        family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
    except OSError as problem:
        return fail(
            name, f"{host}: {problem.strerror or problem}", "set server.host to an address of this machine"
        )
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, number))
        except OSError as problem:
            if _is_ours(host, number):
                return ok(name, f"{where} is served by a Fewshot that is running")
            way = "stop what holds it, or set server.port (server.metrics_port) to another"
            return fail(name, f"{where}: {problem.strerror or problem}", way)
    return ok(name, f"{where} is free")


def _is_ours(host: str, number: int) -> bool:
    within = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    address = f"[{within}]" if ":" in within else within
    try:
        answer = httpx.get(f"http://{address}:{number}/health", timeout=2, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and answer.text.replace(" ", "") == '{"status":"ok"}'


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())
