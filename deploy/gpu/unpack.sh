#!/usr/bin/env bash
# On the GPU host: unpack.sh BUNDLE SITE [CHECKOUT]
# Lays the bundle (its parts appended in order) open in the folder SITE, adds what marks CHECKOUT as installed
# (its command, its entry points), and prints the lines to `eval`. No network, no compiler, no root.
set -euo pipefail
bundle=$1 site=$2 checkout=${3:-}
mkdir -p "$site"
if [ -f "$(dirname "$bundle")/SHA256" ]; then
  found=$(sha256sum <"$bundle" | cut -d' ' -f1) wanted=$(cat "$(dirname "$bundle")/SHA256")
  [ "$found" = "$wanted" ] || { echo "$bundle is not what was packed: parts missing or out of order" >&2; exit 1; }
fi
xz -dc -T0 "$bundle" | tar -x -C "$site"
if [ -n "$checkout" ]; then
  # Metadata alone, read from pyproject.toml: the code stays where it is.
  python3 - "$site" "$checkout" <<'PYTHON'
import pathlib, sys, tomllib
site, checkout = map(pathlib.Path, sys.argv[1:])
project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
info = site / f"{project['name']}-{project['version']}.dist-info"
info.mkdir(exist_ok=True)
(info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
points = {"console_scripts": project["scripts"], **project["entry-points"]}
lines = (f"[{group}]\n" + "".join(f"{name} = {of}\n" for name, of in named.items()) for group, named in points.items())
(info / "entry_points.txt").write_text("\n".join(lines))
PYTHON
fi
nvidia=$(python3 -c 'import torch, pathlib; print(pathlib.Path(torch.__file__).parents[1] / "nvidia/cu13/lib")')
echo "export PYTHONPATH=${checkout:+$checkout:}$site HF_HUB_OFFLINE=1 VLLM_USE_FLASHINFER_SAMPLER=0"
echo "export LD_LIBRARY_PATH=$nvidia\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
