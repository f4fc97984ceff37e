#!/bin/bash
# Checks the CUDA backend on this machine's GPU, then times it beside PyTorch, where that is installed.
#
#     bash run.sh [FOLDER FOR RESULTS [check] [sanitizer] [kernels] [translation] [training]]
#
# Without parts named all are run. What the parts print is kept in report.txt, and the answers to kernels of one instruction in
# instructions.golden. Nothing is installed. Exit status 1 if a check failed.
cd "$(dirname "$0")" || exit 1
results=$(cd "${1:-.}" && pwd) || exit 1
shift
export TFM_CUDA_DEVICE=1 TFM_CUDA_GOLDEN="$results/instructions.golden"
# cuBLASLt may have come with PyTorch.
packages=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
for folder in /usr/local/cuda/lib64 "$packages"/cu13/lib "$packages"/cublas/lib; do
  [ -d "$folder" ] && LD_LIBRARY_PATH="$LD_LIBRARY_PATH${LD_LIBRARY_PATH:+:}$folder"
done
export LD_LIBRARY_PATH
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
rm -f "$results/failed"

has_torch() { python3 -c 'import torch; torch.cuda.get_device_name()' 2>/dev/null; }

# Runs a check under a heading, for so many seconds at most; what it printed is shown at its end.
check() {
  local seconds=$1 name=$2 log start end
  shift 2
  log=$(mktemp -p "$work") start=$(date +%s)
  if timeout "$seconds" "$@" >"$log" 2>&1; then end=passed; else end="FAILED ($?)" && touch "$results/failed"; fi
  { echo "== $name: $end, $(($(date +%s) - start)) s"; [ "$end" = passed ] || tail -c 4000 "$log"; } >"$log.shown"
  cat "$log.shown"
}

# The kernels against the interpreter, the laws, the tests at real sizes, and translations that both devices must agree on.
check_all() {
  check 60 "kernels of one instruction" ./instructions &
  check 200 "laws" ./laws all_laws &
  check 200 "rows" ./rows &
  check 200 "real sizes" ./real_sizes &
  check 60 "f32: translations as on the processor" bash -c "agree f32" &
  wait
}

agree() {
  ./tfm translate --quiet --device cuda --dtype "$1" --input source.en --output "$work/cuda.$1" &&
    ./tfm translate --quiet --device cpu --dtype "$1" --input source.en --output "$work/cpu.$1" &&
    diff "$work/cuda.$1" "$work/cpu.$1"
}
export -f agree
export work

sanitize() {
  command -v compute-sanitizer >/dev/null || { echo "skipped: no compute-sanitizer"; return; }
  for tool in memcheck racecheck synccheck initcheck; do
    TFM_CASES=0.01 check 100 "compute-sanitizer $tool" compute-sanitizer --tool $tool --error-exitcode 9 ./laws all_laws &
  done
  wait
}

kernels() {
  echo "== kernels"
  timeout 120 ./cuda_speed
  echo "== the same in PyTorch"
  if has_torch; then timeout 120 python3 cuda_peers.py; else echo "skipped: no PyTorch with a device"; fi
}

# The base shape of OPUS-MT with random weights, outputs of fixed length: a line of JSON a run.
translation() {
  echo "== translation"
  [ -e "$work/base/config.json" ] || python3 peers_base.py --spm base.spm --out "$work/base" ||
    { echo "skipped: no numpy, safetensors and sentencepiece to make a model with"; return; }
  all="--model $work/base --output $work/out --workers 1"
  batch="$all --input $work/base/sources.txt --length 32"
  single="$all --input $work/base/single.txt --length 24 --mode latency --limit 40"
  for dtype in f16 f32 int8; do
    for beam in 4 1; do
      echo "tfm $dtype beam $beam: $(./peer_run --device cuda --dtype $dtype --beam $beam $batch)"
      echo "tfm $dtype beam $beam, single: $(./peer_run --device cuda --dtype $dtype --beam $beam $single | short)"
    done
  done
  has_torch || { echo "skipped: no PyTorch with a device"; return; }
  torch="python3 peers.py torch --device cuda"
  for dtype in f16 f32; do
    for beam in 4 1; do
      echo "PyTorch $dtype beam $beam: $($torch --dtype $dtype --beam $beam --batch 512 $batch 2>/dev/null)"
    done
    echo "PyTorch $dtype beam 4, single: $($torch --dtype $dtype --beam 4 $single --limit 12 2>/dev/null | short)"
  done
}

# Latencies without the list of them all.
short() { python3 -c 'import json, sys; r = json.load(sys.stdin); r["latencies_ms"] = sorted(r["latencies_ms"])[len(r["latencies_ms"]) // 2]; print(json.dumps(r))'; }

training() {
  echo "== training, f32"
  python3 cuda_batches.py --config base_shape.json >"$work/batches.jsonl" || return
  all="--device cuda --config base_shape.json --batches $work/batches.jsonl --warmup 8 --steps 12"
  echo "tfm: $(./training_speed $all)"
  if has_torch; then echo "PyTorch: $(python3 peers_training.py $all 2>/dev/null)"; else echo "skipped: no PyTorch with a device"; fi
}

{
  date -u
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv,noheader 2>&1
  for part in ${@:-check sanitizer kernels translation training}; do
    case $part in
      check) check_all ;;
      sanitizer) sanitize ;;
      kernels | translation | training) $part ;;
      *) echo "no part $part" && touch "$results/failed" ;;
    esac
  done
} | tee "$results/report.txt"
[ -e "$results/failed" ] && exit 1
exit 0
