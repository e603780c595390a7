#!/bin/sh
# Resolve the lock files again. Needs `uv` and a package index; PyTorch's CPU build is looked for where pip
# is set up to look and, failing that, on PyTorch's own index for CPU wheels.
set -eu
cd "$(dirname "$0")/.."
common="--quiet --python-version 3.11 --override deploy/overrides.txt --no-emit-package torch --generate-hashes --no-header --no-emit-index-url --no-emit-find-links"
wheels=${TORCH_WHEELS:-https://download.pytorch.org/whl/cpu/torch}
# shellcheck disable=SC2086
uv pip compile pyproject.toml --extra cpu --find-links "$wheels" $common -o deploy/cpu.lock
# shellcheck disable=SC2086
uv pip compile pyproject.toml --extra cpu --extra training --extra dev --find-links "$wheels" $common -c deploy/cpu.lock -o deploy/dev.full
# dev.lock: what the tests need beyond cpu.lock.
python3 - <<'PY'
import re
from pathlib import Path
def blocks(text):
    return {b.split("==")[0]: b for b in re.split(r"\n(?=[a-z0-9])", text.strip()) if "==" in b}
cpu, full = (blocks(Path(f"deploy/{n}").read_text()) for n in ("cpu.lock", "dev.full"))
Path("deploy/dev.lock").write_text("\n".join(b for n, b in full.items() if n not in cpu) + "\n")
Path("deploy/dev.full").unlink()
PY
# The programs of other people that the tests drive, each in an environment of its own.
for clients in deploy/clients/*.in; do
    uv pip compile "$clients" --quiet --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --no-emit-index-url --no-emit-find-links -o "${clients%.in}.lock"
done
