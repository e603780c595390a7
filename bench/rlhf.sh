#!/bin/bash
# From preferences to policies on one card or two: where a policy starts, two reward models, RLOO, PPO, DPO.
#   bash bench/rlhf.sh BASE DATA OUT [STEPS]
# BASE = folder of the base, DATA = folder with pairs.jsonl, OUT = adapters, tables (NAME.txt), progress (NAME.log).
# Needs torch, transformers, peft, safetensors and click, nothing of the server. With QA-Feedback and the 135M
# base the first part takes about a minute and a half on an H100 and the second six seconds a step (estimates).
set -u
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONPATH=$PWD OMP_NUM_THREADS=4
base=$1 data=$2 out=$3 steps=${4:-30}
mkdir -p "$out"
second=$(($(nvidia-smi -L | wc -l) > 1 ? 1 : 0))

run() {
  local card=$1 name=$2 method=$3
  shift 3
  CUDA_VISIBLE_DEVICES=$card python -m training "$method" --base "$base" --data "$data" --out "$out" \
    --device cuda --name "$name" "$@" >"$out/$name.txt" 2>"$out/$name.log"
  echo "$name: status $? after $SECONDS s"
  cat "$out/$name.txt"
}
made() { tail -n 1 "$out/$1.txt"; }

run "$second" sft sft --rank 16 --max-tokens 1280 --learning-rate 3e-4 &
run "$second" taste reward --folds 5 &
run 0 taste-counting reward --folds 5 --counting &
wait
reward=$(made taste-counting) start=$(made sft)
run 0 rloo rloo --reward "$reward" --from "$start" --steps "$steps" --plot "$out/rloo.png" &
run "$second" ppo ppo --reward "$reward" --from "$start" --steps "$((steps * 2 / 3))" --plot "$out/ppo.png" &
run "$second" dpo dpo --rank 16 --from "$start" --max-tokens 1280 --epochs 2 &
wait
CUDA_VISIBLE_DEVICES=0 python -m training judge "$(made dpo)" --against "$start" --reward "$reward" \
  --base "$base" --data "$data" --out "$out" --device cuda | tee "$out/dpo-judged.txt"
