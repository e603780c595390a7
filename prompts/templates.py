"""Every template there is: the wording that ships, and folders of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from prompts.errors import TemplateInvalid, UnknownTemplate
from prompts.parsing import parse
from prompts.records import Template

SHIPPED = Path(__file__).parent / "library"
LOCK = "versions.lock"
EXPERIMENTS = "experiments"  # a folder beside the templates; no template has this name


class Library:
    """Templates by name and version. A name alone means its highest version."""

    def __init__(self, templates: Iterator[Template] | tuple[Template, ...]) -> None:
        self._versions: dict[str, dict[int, Template]] = {}
        for template in templates:
            self._versions.setdefault(template.name, {})[template.version] = template

    @classmethod
    def load(cls, *folders: Path) -> Library:
        """The shipped templates and those of `folders`; the same name@version in a later folder wins.

        Raises TemplateInvalid for a file that breaks the format, for one whose place does not say its
        name and version, and for a locked version that was edited.
        """
        return cls(template for folder in (SHIPPED, *folders) for template in read(folder))

    def get(self, reference: str) -> Template:
        """The template of "name" or "name@version"; raises UnknownTemplate naming near ones."""
        name, _, version = reference.partition("@")
        versions = self._versions.get(name, {})
        if not version and versions:
            return versions[max(versions)]
        if version.isdecimal() and int(version) in versions:
            return versions[int(version)]
        near = [template.reference for template in versions.values()]
        raise UnknownTemplate(reference, near or get_close_matches(name, self._versions, cutoff=0.4))

    def __iter__(self) -> Iterator[Template]:
        """All versions, by name and version."""
        for _, versions in sorted(self._versions.items()):
            yield from (template for _, template in sorted(versions.items()))


def read(folder: Path) -> list[Template]:
    """All templates of one folder, laid out as `<name>/<version>.toml`."""
    if not folder.is_dir():
        raise TemplateInvalid(str(folder), ["there is no such folder"])
    locked = locked_digests(folder)
    return [read_file(path, locked) for path in paths(folder)]


def paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*.toml") if path.parent.name != EXPERIMENTS)


def read_file(path: Path, locked: dict[str, str]) -> Template:
    """One file, held against its place and against the digest that its folder's lock keeps."""
    template = parse(path.read_bytes(), str(path))
    problems = []
    if (path.parent.name, path.stem) != (template.name, str(template.version)):
        problems.append(
            f"it holds {template.reference} and so belongs at {template.name}/{template.version}.toml"
        )
    if locked.get(template.reference, template.digest) != template.digest:
        problems.append(
            f"{template.reference} is locked and its wording changed: "
            f"undo the change and copy the file to {template.name}/{template.version + 1}.toml"
        )
    if problems:
        raise TemplateInvalid(str(path), problems)
    return template


def locked_digests(folder: Path) -> dict[str, str]:
    """`name@version` to digest, as `versions.lock` in the folder lists them; empty without the file."""
    lock = folder / LOCK
    if not lock.is_file():
        return {}
    lines = [line.split() for line in lock.read_text().splitlines() if line.strip()]
    if any(len(line) != 2 for line in lines):
        raise TemplateInvalid(str(lock), ["each line must read `name@version digest`"])
    return {reference: digest for reference, digest in lines}


def lock(folder: Path) -> list[str]:
    """Add the versions that the folder's lock does not know yet; returns their references.

    Versions already locked keep their digests: raises TemplateInvalid when one was edited.
    """
    locked = locked_digests(folder)
    fresh = {template.reference: template.digest for template in read(folder)}
    added = sorted(fresh.keys() - locked.keys())
    lines = [f"{reference} {digest}\n" for reference, digest in sorted({**fresh, **locked}.items())]
    (folder / LOCK).write_text("".join(lines))
    return added
