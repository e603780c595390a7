"""The house keeps its shape: names, sizes, what is documented, what is promised."""

import ast
import re
import statistics
import subprocess
import sys
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest

from deploy.generate_docs import PAGES
from server.cli import ABOUT

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("server", "indexer", "prompts", "training")
SOURCES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))


def test_the_import_names_belong_to_this_application_alone():
    owners = packages_distributions()
    for room in ROOMS:
        assert set(owners.get(room, ["fewshot"])) == {"fewshot"}
    assert any(distribution.name == "fewshot" for distribution in distributions())


def test_no_file_is_longer_than_300_lines_and_most_are_short():
    lengths = {file: len(file.read_text().splitlines()) for file in SOURCES}
    assert {str(file): lines for file, lines in lengths.items() if lines > 300} == {}
    assert statistics.median(lines for lines in lengths.values() if lines) < 120


# What turns bytes of somebody else's into code, by the name it is called by.
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CALLS = {"torch.load", "yaml.load", "yaml.unsafe_load", "os.system", "numpy.load", "pandas.read_pickle"}


def names_of(node):
    """`a.b` for a call of that, and what an import brings; nothing for the rest."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name.partition(".")[0] for alias in names)
        case ast.ImportFrom(module=str(module)):
            yield module.partition(".")[0]
        case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)):
            yield f"{owner}.{name}".replace("np.", "numpy.")
        case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
            yield name


def test_no_array_is_written_in_a_way_that_does_not_notice_a_full_disk():
    blind = re.compile(r"\.tofile\(|np\.save\((?!held)|np\.savez")
    assert [str(file) for file in SOURCES if blind.search(file.read_text())] == []


def test_no_bytes_become_code():
    found = set()
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            for name in names_of(node):
                if name in UNSAFE | CALLS | {"eval", "exec"}:
                    safe = isinstance(node, ast.Call) and any(
                        (word.arg, getattr(word.value, "value", None))
                        in {("weights_only", True), ("allow_pickle", False)}
                        for word in node.keywords
                    )
                    if not safe:
                        found.add(f"{file.relative_to(ROOT)}: {name}")
    assert found == set()


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("import pickle.x", "pickle"),
        ("from joblib import load", "joblib"),
        ("torch.load(f)", "torch.load"),
        ("np.load(f)", "numpy.load"),
        ("eval('1')", "eval"),
        ("from dill.x import y", "dill"),
    ],
)
def test_what_would_become_code_is_seen(written, name):
    assert name in {name for node in ast.walk(ast.parse(written)) for name in names_of(node)}


def test_every_command_the_docs_show_exists():
    shown = set()
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        shown |= set(re.findall(r"(?:^|`|\n)fewshot ([a-z]+)", page.read_text()))
    assert shown <= set(ABOUT)


def test_generated_docs_are_up_to_date():
    for file, page in PAGES.items():
        assert file.read_text() == page(), f"{file.name}: run `make docs`"


def test_every_link_in_the_docs_leads_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} → {target}"


@pytest.mark.parametrize("lock", ["cpu.lock", "dev.lock"])
def test_every_locked_wheel_has_a_version_and_a_hash(lock):
    text = (ROOT / "deploy" / lock).read_text()
    pins = re.findall(r"^([a-z0-9][a-z0-9._-]*(?:\[[a-z,]+\])?)(==\S+)? ?(\\)?$", text, re.MULTILINE)
    assert pins
    assert all(version and more for _, version, more in pins)
    assert not re.search(r"^(torch|torchvision|torchaudio|torchcodec|triton)==", text, re.MULTILINE)


def test_set_up_says_what_is_missing_and_how_to_get_it():
    program = (
        "import sys\nsys.path.insert(0, 'deploy')\nimport setup_env\n"
        "setup_env.NEWEST = setup_env.OLDEST = (2, 7)\nsys.argv = ['setup_env.py', 'nowhere']\n"
        "raise SystemExit(setup_env.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1
    assert "Python" in done.stdout
    assert "PYTHON=python3.12" in done.stdout
