"""Ask the advisory databases about every locked package, and mind what was waived in writing.

    python deploy/audit.py                       all lock files, with `uvx pip-audit`
    python deploy/audit.py --with pip-audit      with one that is installed

Exits with 1 when an advisory is neither gone nor waived or its database cannot be asked, with 2 when
deploy/waivers.toml is wrong or pip-audit is not here. A waiver says which advisory, of which package, why it
does not reach us, and until when that is believed.
"""

import argparse
import datetime
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

DEPLOY = Path(__file__).resolve().parent
LOCKS = tuple(DEPLOY / name for name in ("cpu.lock", "torch-cpu.lock", "dev.lock"))
WAIVERS = DEPLOY / "waivers.toml"
LONGEST = datetime.timedelta(days=180)
FIELDS = {"id": str, "package": str, "reason": str, "until": datetime.date}
SHORTEST_REASON = 40  # letters: "not affected" is no reason


class WaiverInvalid(Exception):
    """What is wrong with a waiver, and the way out."""


class Waiver(NamedTuple):
    """An advisory that is known, and does not reach us."""

    id: str  # PYSEC-…, GHSA-… or CVE-…, as pip-audit prints it
    package: str
    reason: str
    until: datetime.date


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--with", dest="tool", default="uvx pip-audit", help="how to call pip-audit")
    parser.add_argument("--waivers", type=Path, default=WAIVERS)
    parser.add_argument("locks", nargs="*", type=Path, default=LOCKS)
    asked = parser.parse_args(arguments)
    tool = shlex.split(asked.tool)
    if shutil.which(tool[0]) is None:
        sys.stderr.write(f"there is no {tool[0]} here: pip install uv, or name pip-audit by --with\n")
        return 2
    try:
        waivers = read_waivers(asked.waivers, locked(asked.locks), datetime.date.today())
    except WaiverInvalid as problem:
        sys.stderr.write(f"{asked.waivers}: {problem}\n")
        return 2
    ignored = [word for waiver in waivers for word in ("--ignore-vuln", waiver.id)]
    for waiver in waivers:
        sys.stdout.write(f"waived until {waiver.until}: {waiver.id} of {waiver.package}: {waiver.reason}\n")
    worst = 0
    for lock in asked.locks:
        command = [*tool, "--disable-pip", "--require-hashes", *ignored, "-r", str(lock)]
        sys.stdout.write(f"{lock.name}:\n")
        sys.stdout.flush()
        worst |= subprocess.run(command, check=False).returncode
    if worst:
        sys.stderr.write(f"raise what was found, or waive it in {asked.waivers.name}\n")
    return 1 if worst else 0


def locked(locks: Sequence[Path]) -> set[str]:
    """Names of the locked packages."""
    return {
        name for lock in locks for name in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==", lock.read_text(), re.M)
    }


def read_waivers(path: Path, packages: set[str], today: datetime.date) -> list[Waiver]:
    """The waivers that hold. Raises `WaiverInvalid` for one that is over, too long, or says too little."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise WaiverInvalid(str(problem)) from problem
    waivers = []
    for number, row in enumerate(table.pop("waiver", []), 1):
        wrong = {name for name, kind in FIELDS.items() if not isinstance(row.get(name), kind)}
        if wrong := wrong | (row.keys() - FIELDS.keys()):
            raise WaiverInvalid(f"waiver {number}: id, package, reason and until are needed: {sorted(wrong)}")
        waiver = Waiver(**row)
        if len(waiver.reason) < SHORTEST_REASON:
            raise WaiverInvalid(f"{waiver.id}: say why it does not reach us, and what would change that")
        if waiver.package not in packages:
            raise WaiverInvalid(f"{waiver.id}: no lock file has {waiver.package}: remove the waiver")
        if waiver.until < today:
            raise WaiverInvalid(f"{waiver.id}: over since {waiver.until}: raise the package or look again")
        if waiver.until > today + LONGEST:
            raise WaiverInvalid(f"{waiver.id}: {waiver.until} is more than {LONGEST.days} days away")
        waivers.append(waiver)
    if table:
        raise WaiverInvalid(f"only [[waiver]] is known, not {sorted(table)}")
    return waivers


if __name__ == "__main__":
    raise SystemExit(main())
