#!/bin/sh
# Checks the CUDA backend on this machine's GPU, then times it. Everything is printed and kept in report.txt; the answers to
# kernels of one instruction are kept in instructions.golden. Nothing is installed. Exit status 1 if a check failed.
cd "$(dirname "$0")" || exit 1
results=$(cd "${1:-.}" && pwd) || exit 1
export TFM_CUDA_DEVICE=1 TFM_CUDA_GOLDEN="$results/instructions.golden"
# cuBLASLt may have come with PyTorch.
packages=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
for folder in /usr/local/cuda/lib64 "$packages"/cu13/lib "$packages"/cublas/lib; do
  [ -d "$folder" ] && LD_LIBRARY_PATH="$LD_LIBRARY_PATH${LD_LIBRARY_PATH:+:}$folder"
done
export LD_LIBRARY_PATH
# Runs a command under a heading, for so many seconds at most.
part() {
  seconds=$1 name=$2
  shift 2
  echo "== $name"
  timeout "$seconds" "$@" 2>&1 || { echo "FAILED ($?): $name"; touch "$results/failed"; }
}
rm -f "$results/failed"
{
  date -u
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv,noheader 2>&1
  part 60 "kernels of one instruction" ./instructions
  part 200 "laws" ./laws all_laws
  for test in *; do
    case $test in run.sh | *.py | *.en | *.txt | *.golden | tfm | cuda_speed | laws | instructions | failed) continue ;; esac
    part 60 "$test" "./$test"
  done
  echo "== sanitizer"
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck; do
      TFM_CASES=0.02 part 60 "compute-sanitizer $tool" compute-sanitizer --tool $tool --error-exitcode 9 ./laws all_laws
    done
  else
    echo "skipped: no compute-sanitizer"
  fi
  part 120 "speed" ./cuda_speed
  echo "== PyTorch"
  if python3 -c 'import torch; torch.cuda.get_device_name()' 2>/dev/null; then
    part 120 "PyTorch" python3 cuda_peers.py
  else
    echo "skipped: no PyTorch with a device"
  fi
  echo "== translation, 20 times source.en"
  i=0
  while [ $i -lt 20 ]; do cat source.en; i=$((i + 1)); done >"$results/source.txt"
  for type in f32 int8; do
    for device in cuda cpu; do
      start=$(date +%s.%N)
      part 120 "$device $type" ./tfm translate --quiet --device $device --dtype $type --input "$results/source.txt" \
        --output "$results/$device.txt"
      echo "$device $type $(echo "$(date +%s.%N) $start" | awk '{print $1 - $2}') s"
    done
    cmp "$results/cuda.txt" "$results/cpu.txt" && echo "the same translations"
  done
} | tee "$results/report.txt"
[ -e "$results/failed" ] && exit 1
exit 0
