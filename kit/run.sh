#!/usr/bin/env bash
# Checks and measures this project on a machine with an NVIDIA GPU, Python with PyTorch and neither Rust nor network.
#
# `cargo xtask kit` puts this script beside what it runs. The most important parts come first; every part has a limit, and
# all of them together end within nine minutes, of which the bench has a third at least. Results are written as they
# come, into text files under $OUT (default: results), and into a folder of the bench, which `cargo xtask bench --readme
# FOLDER` takes into benches/runs and the README; the last lines on the screen are the summary. Exit code: 0 when everything
# was right.
#
#   run.sh [PART...]                       on the GPU; only the parts whose names begin so, such as `tests bench`
#   BENCH='--only sphereface20' run.sh bench   other cases than the quick look's (`bench --help`); the whole time is theirs
#   SECONDS_AT_MOST=200 run.sh             another limit of all parts together, of which the bench has a third at least
#   run.sh --emulator                      the same script on the emulator and, for the bench, the CPU: to test the kit
set -uo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
packed="$here"
[ -f "$packed/kit.tar.gz" ] || packed="$here/../target/kit"
[ -f "$packed/kit.tar.gz" ] || { echo "run.sh: no $packed/kit.tar.gz; \`cargo xtask kit\` makes it"; exit 2; }
export OUT="${OUT:-results}"
mkdir -p "$OUT" && OUT="$(cd "$OUT" && pwd)" || exit 2
device=cuda
[ "${1:-}" = --emulator ] && device=emulator && shift
only=("$@")

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
kit="$scratch/kit"
{ mkdir "$kit" && tar -xzf "$packed/kit.tar.gz" -C "$kit"; } || exit 2
# The kit's machine code is used where it fits, and what is compiled besides does not change the kit. NVRTC is looked for
# where it always is: of this user's cache only that is needed.
old_cache="${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/sphereface"
export XDG_CACHE_HOME="$scratch/cache"
mkdir -p "$XDG_CACHE_HOME/sphereface/kernels"
cp -r "$kit/cache/." "$XDG_CACHE_HOME/sphereface/kernels/"
[ -d "$old_cache/nvrtc" ] && ln -s "$old_cache/nvrtc" "$XDG_CACHE_HOME/sphereface/nvrtc"
[ -d "$packed/data" ] && export SPHEREFACE_DATA="$packed/data"
[ "$device" = cuda ] && export SPHEREFACE_TEST_DEVICE=cuda
export SPHEREFACE_KERNEL_ERRORS="$OUT/kernel-errors.txt" SPHEREFACE_SKIPPED="$scratch/skipped"
export PYTHONUNBUFFERED=1 RUST_BACKTRACE=0
rm -f "$SPHEREFACE_KERNEL_ERRORS" "$OUT"/{summary,device,tests,sanitizer,training,bench}.txt "$OUT"/profile-*.csv

failed=0
# The emulator is slow, and in no hurry.
if [ "$device" = cuda ]; then patience=1; else patience=4; fi
limit_s=$((${SECONDS_AT_MOST:-520} * patience)) bench_s=$((${SECONDS_AT_MOST:-520} * patience / 3))
say() { echo "$*" | tee -a "$OUT/summary.txt"; }

# wanted NAME: whether this part was asked for.
wanted() {
    local begin
    [ ${#only[@]} = 0 ] && return 0
    for begin in "${only[@]}"; do [[ $1 == "$begin"* ]] && return 0; done
    return 1
}

# What comes before the bench ends in time for it.
until_s=$limit_s
wanted bench && until_s=$((limit_s - bench_s))

# part NAME LIMIT_S FILE COMMAND...: runs a command within its limit and what is left of all; its output goes to FILE.
part() {
    local name=$1 limit=$(($2 * patience)) file=$3 start=$SECONDS result=ok status
    shift 3
    wanted "$name" || return 0
    [ $((until_s - SECONDS)) -lt "$limit" ] && limit=$((until_s - SECONDS))
    if [ "$limit" -lt 5 ]; then
        say "$(printf '%-28s %-8s' "$name" 'NOT RUN') no time was left"
        failed=1
        return 1
    fi
    echo "== $name: $*" >>"$OUT/$file"
    timeout -k 15 "$limit" "$@" >>"$OUT/$file" 2>&1
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
# NVIDIA's libraries where PyTorch's packages have put them.
torch_libraries() {
    timeout 60 python3 - 2>/dev/null <<'END'
import pathlib, torch
packages = pathlib.Path(torch.__file__).parents[1]
print(":".join(map(str, [*packages.glob("nvidia/*/lib"), packages / "torch/lib"])))
END
}
# one_test NAME: a test in a process of its own, as one that faults takes its device with it.
one_test() {
    local output status
    output="$(timeout -k 5 $((60 * patience)) "$kit/bin/kernels" --exact "$1" 2>&1)"
    status=$?
    [ $status = 0 ] && echo "ok $1" && return
    printf 'FAILED with %s: %s\n%s\n' $status "$1" "$output"
    return 1
}
tests() {
    local names="$scratch/names" results="$scratch/results" passed all
    "$kit/bin/kernels" --list 2>/dev/null | sed -n 's/: test$//p' >"$names"
    xargs -a "$names" -P "$(nproc)" -I{} bash -c 'one_test {}' >"$results"
    cat "$results"
    passed=$(grep -c '^ok ' "$results") all=$(grep -c . "$names")
    echo "$passed of $all tests passed"
    [ "$all" -gt 0 ] && [ "$passed" = "$all" ]
}
export -f train one_test tests
export kit device patience scratch

say "device: $device; $(date -u '+%Y-%m-%d %H:%M:%S') UTC; commit $(cat "$kit/commit.txt")"

# 1. What is there.
on_gpu && part 'device' 10 device.txt nvidia-smi \
    --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit --format=csv
part 'devices' 20 device.txt "$kit/bin/trainer" devices

# 2. Are the kernels right?
part 'self-check' 40 device.txt "$kit/bin/trainer" devices --self-check
part 'instructions' 30 device.txt "$kit/bin/instructions" "$kit/programs.jsonl" --device "$device"
part 'tests' 100 tests.txt bash -c tests
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
on_gpu && [ ! -d "$packed/data" ] && whole="--data mnist-10k $whole"
for precision in fp32 bf16; do
    part "training, $precision" 90 training.txt bash -c "
        train $whole --precision $precision --out '$scratch/$precision' && cat '$scratch/$precision/summary.json'"
done
on_gpu && part 'accuracy' 10 training.txt python3 "$here/accuracy.py" "$scratch/fp32" "$scratch/bf16"

# 5. Where the time of a step goes: each launch with its duration, from the first evaluation's on.
profiler="$(command -v ncu || ls /usr/local/cuda/bin/ncu 2>/dev/null || true)"
if on_gpu && [ -n "$profiler" ]; then
    for precision in bf16 tf32; do
        part "profile, $precision" 45 "profile-$precision.csv" "$profiler" --csv --clock-control none --cache-control none \
            --metrics gpu__time_duration.sum --launch-skip 30 --launch-count 250 \
            "$kit/bin/trainer" train --device cuda --quiet --data mnist-10k --model sphereface20 --batch 256 --steps 2 \
            --evaluate 16 --no-graph --precision $precision --out "$scratch/profile-$precision"
    done
else
    skip 'profile' 'it needs a GPU and ncu'
fi

# 6. Operators and trainings beside cuDNN, cuBLASLt and PyTorch, the most important first, as long as there is time. The
# emulator has no time to measure: there small shapes are checked, and what is timed is the CPU.
until_s=$limit_s
left=$((limit_s - SECONDS))
bench() { # NAME LIMIT_S ARGUMENTS...
    part "$1" "$2" bench.txt "$kit/bin/bench" --kit "$kit" --runs-dir "$OUT" "${@:3}"
    run="$(grep -x "$OUT/.*" "$OUT/bench.txt" | tail -n 1)"
    [ -f "$run/readme.md" ] && say "$(grep '^|' "$run/readme.md")"
}
if wanted bench && on_gpu; then
    libraries="$(torch_libraries)" && export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    # shellcheck disable=SC2086
    bench 'bench' "$left" --device cuda --within $((left - 20)) ${BENCH---quick}
elif wanted bench; then
    part 'bench, small shapes' 100 bench.txt "$kit/bin/bench" --device emulator --only 'gemm NN,optimizer,head C10572'
    bench 'bench' 60 --device cpu --quick --within 40 --only 'mnist 28x28,gemm NN 1024'
fi

[ -s "$SPHEREFACE_SKIPPED" ] && { failed=1; say "tests that did not run:"; say "$(cat "$SPHEREFACE_SKIPPED")"; }
say "$([ $failed = 0 ] && echo 'everything was right' || echo 'SOMETHING WAS WRONG') after $SECONDS s"
cat "$OUT/summary.txt"
exit $failed
