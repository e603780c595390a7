#!/usr/bin/env bash
# shared.sh COMMAND...  runs COMMAND so that all its processes work on the card at once, not in turn.
# Without it the engine and the search, two processes, have the card one after the other, and each call of a
# search waits some 5 ms for its turn. It starts NVIDIA's MPS daemon for this command alone, and ends it with
# the command; no root, no setting of the card is changed. Its exit status is the command's.
set -uo pipefail
[ $# -gt 0 ] || { echo "usage: $0 COMMAND..., as in: $0 fewshot serve" >&2; exit 64; }
command -v nvidia-cuda-mps-control >/dev/null || {
  echo "$0: no nvidia-cuda-mps-control on the PATH; it is part of NVIDIA's driver" >&2; exit 127; }
folder=$(mktemp -d "${TMPDIR:-/tmp}/fewshot-mps.XXXXXX")
export CUDA_MPS_PIPE_DIRECTORY=$folder CUDA_MPS_LOG_DIRECTORY=$folder
nvidia-cuda-mps-control -d || { echo "$0: the MPS daemon did not start: see $folder/control.log" >&2; exit 71; }
case ${CUDA_VISIBLE_DEVICES-} in
  *[!0-9,]* | "") ;;  # all of them, or names that stay what they are
  *) CUDA_VISIBLE_DEVICES=$(seq -s, 0 "$(tr -dc , <<<"$CUDA_VISIBLE_DEVICES" | wc -c)")  # the daemon counts its own from 0
    export CUDA_VISIBLE_DEVICES ;;
esac
"$@" &
child=$!
for signal in INT TERM HUP; do trap 'kill -'$signal' "$child" 2>/dev/null' $signal; done
wait "$child"; status=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done  # a signal ends a wait, not the command
echo quit | nvidia-cuda-mps-control >/dev/null 2>&1
rm -rf "$folder"
exit "$status"
