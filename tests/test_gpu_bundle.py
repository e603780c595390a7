"""The bundle for a host without a network: what is chosen, what is left out, and that it comes out whole."""

import subprocess
import zipfile

import pytest
from packaging.requirements import Requirement

from deploy.gpu.make_bundle import frozen, lay_open, own_requirements, parts, requirements_of, spelled


def wheel(folder, name, files, requires=()):
    path = folder / f"{name}-1.0-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{name}-1.0.dist-info/METADATA": metadata}.items():
            archive.writestr(file, text)
    return path


def test_it_asks_for_what_the_project_asks_for_with_the_hosts_vllm():
    asked = {wanted.name: str(wanted.specifier) for wanted in own_requirements("0.25.1", "cpu")}
    assert asked["vllm"] == "==0.25.1"
    assert {"fastapi", "tantivy", "pysqlite3", "faiss-cpu", "gguf", "sentence-transformers"} <= set(asked)
    assert "faiss-gpu-cuvs" not in asked
    assert "faiss-gpu-cuvs" in {wanted.name for wanted in own_requirements("0.25.1", "gpu")}


def test_pins_are_read_from_a_freeze_and_from_a_lock(tmp_path):
    (tmp_path / "lock").write_text(
        "Some_Thing==1.2 \\\n    --hash=sha256:00\n# other==3\nx==1+cpu ; python_version>'3'\n"
    )
    assert frozen(tmp_path / "lock") == {"some-thing": "1.2", "x": "1+cpu"}


def test_requirements_follow_the_hosts_markers_and_the_extras_asked_for(tmp_path):
    lines = ("a>=1", "b; python_version < '3.12'", "c; extra == 'fast'", "d; sys_platform == 'win32'")
    made = wheel(tmp_path, "w", {}, lines)
    assert [wanted.name for wanted in requirements_of(made, set())] == ["a"]
    assert [wanted.name for wanted in requirements_of(made, {"fast"})] == ["a", "c"]


@pytest.mark.parametrize(
    ("written", "found"),
    [("a==26.06.*", "a==26.6.*"), ("a==1.0.0", "a==1.0.0"), ("a>=2.10,<3.0a1", "a<3.0a1,>=2.10"), ("a", "a")],
)
def test_versions_are_asked_for_as_pip_spells_them(written, found):
    assert spelled(Requirement(written)) == found


def test_what_is_laid_open_goes_through_the_parts_unharmed(tmp_path):
    files = {
        "w/code.py": "x = 1\n",
        "w-1.0.data/purelib/w/more.py": "y = 2\n",
        "w-1.0.data/scripts/run": "never",
        "vllm/_moe_C.so": "experts",
        "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so": "not for Hopper",
    }
    site, out = tmp_path / "site", tmp_path / "out"
    site.mkdir(), out.mkdir()
    lay_open(wheel(tmp_path, "w", files), site, dense=True)
    cut = list(parts(site, out))
    assert [part.name for part in cut] == ["part.00"]
    (tmp_path / "back").mkdir()
    joined = b"".join(part.read_bytes() for part in cut)
    subprocess.run(["tar", "-xJ", "-C", str(tmp_path / "back")], input=joined, check=True)
    found = {
        str(file.relative_to(tmp_path / "back")) for file in (tmp_path / "back").rglob("*") if file.is_file()
    }
    assert found == {"w/code.py", "w/more.py", "w-1.0.dist-info/METADATA"}


def test_a_wheel_cannot_write_outside_its_folder(tmp_path):
    with pytest.raises(SystemExit, match="outside"):
        lay_open(wheel(tmp_path, "w", {"w/../../evil": "x"}), tmp_path / "site", dense=False)
