#!/usr/bin/env bash
# Checks and measures this project on a machine with an NVIDIA GPU, Python with PyTorch and neither Rust nor network.
#
# `cargo xtask kit` puts this script beside what it runs. The most important parts come first; every part has a limit, and
# all of them together end within nine minutes. Results are written as they come, into eight files under $OUT (default:
# results); the last lines on the screen are the summary. Exit code: 0 when everything was right.
#
#   run.sh [PART...]    on the GPU; only the parts whose names begin so, such as `timings peers`
#   run.sh --emulator   the same script on the emulator, as far as that goes: to test the kit
set -uo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
kit="$here"
[ -d "$kit/bin" ] || kit="$here/../target/kit"
[ -d "$kit/bin" ] || { echo "run.sh: no $kit/bin; \`cargo xtask kit\` makes it"; exit 2; }
export OUT="${OUT:-results}"
mkdir -p "$OUT" && OUT="$(cd "$OUT" && pwd)" || exit 2
device=cuda
[ "${1:-}" = --emulator ] && device=emulator && shift
only=("$@")

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
# The kit's machine code is used where it fits, and what is compiled besides does not change the kit. NVRTC is looked for
# where it always is: of this user's cache only that is needed.
old_cache="${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/sphereface"
export XDG_CACHE_HOME="$scratch/cache"
mkdir -p "$XDG_CACHE_HOME/sphereface/kernels"
cp -r "$kit/cache/." "$XDG_CACHE_HOME/sphereface/kernels/"
[ -d "$old_cache/nvrtc" ] && ln -s "$old_cache/nvrtc" "$XDG_CACHE_HOME/sphereface/nvrtc"
[ -d "$kit/data" ] && export SPHEREFACE_DATA="$kit/data"
[ "$device" = cuda ] && export SPHEREFACE_TEST_DEVICE=cuda
export SPHEREFACE_KERNEL_ERRORS="$OUT/kernel-errors.txt" SPHEREFACE_SKIPPED="$scratch/skipped"
export PYTHONUNBUFFERED=1 RUST_BACKTRACE=0
rm -f "$SPHEREFACE_KERNEL_ERRORS" "$OUT"/{summary,device,tests,sanitizer,training}.txt "$OUT"/{timings,peers}.jsonl

failed=0
limit_s=520
say() { echo "$*" | tee -a "$OUT/summary.txt"; }

# wanted NAME: whether this part was asked for.
wanted() {
    local begin
    [ ${#only[@]} = 0 ] && return 0
    for begin in "${only[@]}"; do [[ $1 == "$begin"* ]] && return 0; done
    return 1
}

# part NAME LIMIT_S FILE COMMAND...: runs a command within its limit and what is left of all; its output goes to FILE.
part() {
    local name=$1 limit=$2 file=$3 start=$SECONDS result=ok status
    shift 3
    wanted "$name" || return 0
    [ $((limit_s - SECONDS)) -lt "$limit" ] && limit=$((limit_s - SECONDS))
    if [ "$limit" -lt 5 ]; then
        say "$(printf '%-28s %-8s' "$name" 'NOT RUN') no time was left"
        failed=1
        return 1
    fi
    echo "== $name: $*" >>"$OUT/$file"
    timeout -k 5 "$limit" "$@" >>"$OUT/$file" 2>&1
    status=$?
    [ $status -eq 124 ] && result=TIMEOUT
    [ $status -ne 0 ] && [ $status -ne 124 ] && result=FAILED
    [ $status -ne 0 ] && failed=1
    say "$(printf '%-28s %-8s %4d s  %s' "$name" "$result" $((SECONDS - start)) "$(grep -v '^ *$' "$OUT/$file" | tail -n 1 | cut -c 1-110)")"
    return $status
}
skip() { wanted "$1" && say "$(printf '%-28s %-8s' "$1" skipped) $2"; }
train() { "$kit/bin/trainer" train --device "$device" --quiet "$@"; }
on_gpu() { [ "$device" = cuda ]; }
has_torch() { timeout 60 python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; }
export -f train
export kit device

say "device: $device; $(date -u '+%Y-%m-%d %H:%M:%S') UTC; $(cat "$kit/commit.txt")"

# 1. What is there, and its ceilings.
on_gpu && part 'device' 10 device.txt nvidia-smi \
    --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit --format=csv
part 'devices' 20 device.txt "$kit/bin/trainer" devices
if on_gpu && wanted ceilings && has_torch; then part 'ceilings' 40 device.txt python3 "$here/peers.py" ceilings; else
    skip 'ceilings' 'they need PyTorch and a GPU'
fi

# 2. Are the kernels right?
part 'self-check' 40 device.txt "$kit/bin/trainer" devices --self-check
part 'instructions' 30 device.txt "$kit/bin/instructions" "$kit/programs.jsonl" --device "$device"
part 'tests' 100 tests.txt "$kit/bin/kernels"
# The first start on a device judges it, too, and keeps the verdict: the checkers below then see a training alone.
part 'first start' 60 training.txt bash -c "train --data mnist-10k --batch 8 --steps 2 --evaluate 16 --out '$scratch/first'"

# 3. What hardware checkers see: each activation in an allocation of its own.
sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)"
small='--data mnist-10k --batch 8 --steps 2 --evaluate 16 --arena separate --no-graph'
if on_gpu && [ -n "$sanitizer" ]; then
    for tool in memcheck racecheck initcheck synccheck; do
        # shellcheck disable=SC2086
        part "$tool" 30 sanitizer.txt "$sanitizer" --tool $tool --error-exitcode 9 \
            "$kit/bin/trainer" train --device cuda --quiet $small --out "$scratch/$tool"
    done
    part 'memcheck of tests' 40 sanitizer.txt "$sanitizer" --tool memcheck --error-exitcode 9 \
        "$kit/bin/kernels" --test-threads 1 elementwise linear margin_softmax_of
else
    skip 'compute-sanitizer' 'it needs a GPU and CUDA'
    # shellcheck disable=SC2086
    part 'separate arena' 120 sanitizer.txt bash -c "train $small --out '$scratch/separate'"
fi

# 4. Trainings: a graph and single launches give the same bits; fp32 and bf16 learn the same.
steps=200 batch=128 epochs=5
on_gpu || { steps=3 batch=8; }
few="--data mnist-10k --batch $batch --steps $steps --evaluate 128"
part 'graph, same bits' 120 training.txt bash -c "
    train $few --out '$scratch/graph' && train $few --no-graph --out '$scratch/launches' &&
    cmp '$scratch/graph/checkpoint.safetensors' '$scratch/launches/checkpoint.safetensors' && echo 'the same bits'"
if on_gpu; then whole="--epochs $epochs"; else whole="--data mnist-10k --batch 8 --steps 3 --evaluate 16"; fi
# Without MNIST in the kit, its digits: a search for more would wait for a network that is not there.
on_gpu && [ ! -d "$kit/data" ] && whole="--data mnist-10k $whole"
for precision in fp32 bf16; do
    part "training, $precision" 90 training.txt bash -c "
        train $whole --precision $precision --out '$scratch/$precision' && cat '$scratch/$precision/summary.json'"
done
on_gpu && part 'accuracy' 10 training.txt python3 "$here/peers.py" accuracy "$scratch/fp32" "$scratch/bf16"

# 5. How long operators take, and PyTorch's.
if on_gpu; then size=; else size=--small; fi
# shellcheck disable=SC2086
part 'timings' 150 timings.jsonl "$kit/bin/timings" --device "$device" $size
if on_gpu && wanted peers && has_torch; then part 'peers' 90 peers.jsonl python3 "$here/peers.py" operators "$OUT/timings.jsonl"; else
    skip 'peers' 'they need PyTorch and a GPU'
fi

[ -s "$SPHEREFACE_SKIPPED" ] && { failed=1; say "tests that did not run:"; say "$(cat "$SPHEREFACE_SKIPPED")"; }
say "$([ $failed = 0 ] && echo 'everything was right' || echo 'SOMETHING WAS WRONG') after $SECONDS s"
cat "$OUT/summary.txt"
exit $failed
