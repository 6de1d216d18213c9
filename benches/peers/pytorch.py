"""PyTorch as a peer of `cargo xtask bench`: one JSON object a line on stdin and stdout, as README.md beside it says.

    pytorch.py [--device cpu|cuda[:N]] [--bf16]

With --bf16 it does cases of fp32 in bf16, products and all: a peer of its own, for processors that have such products.
"""

import argparse
import json
import os
import sys
import time
import traceback

# What is faster in bf16; heads and updates stay in fp32 in any training.
NARROW = ("gemm", "conv2d_", "fused_", "training_step", "forward")


class Missing(Exception):
    """Why a case or variant is not supported, in one line."""


class Session:
    """What the harness prepared last; `narrow` is whether cases of fp32 are done in bf16."""

    def __init__(self, narrow):
        self.narrow = narrow
        self.prepared = None

    def answer(self, request):
        if "variants" in request:
            return {"variants": self.variants(request["variants"])}
        if "prepare" in request:
            return self.prepare(request)
        if "run" in request:
            return {"seconds": self.seconds(request["run"])}
        raise Missing(f"expected variants, prepare or run, found {sorted(request)}")

    def variants(self, case):
        return cases.variants(case) if not self.narrow or case["kind"].startswith(NARROW) else []

    def prepare(self, request):
        case, variant = request["prepare"], request.get("variant") or ""
        known = self.variants(case)
        if not known:
            raise Missing("this case is not supported")
        if variant not in known:
            raise Missing(f"{case['kind']}: expected a variant of {known}, found {variant!r}")
        self.prepared = None  # its memory is free before the next takes its own
        torch.manual_seed(0)
        case = case | {"dtype": "bf16"} if self.narrow else case
        self.prepared = cases.KINDS[case["kind"]](case, arrays.read(request["inputs"]), variant)
        outputs = {name: value.detach().float().cpu().contiguous() for name, value in self.prepared.outputs.items()}
        arrays.write(request["outputs"], outputs)
        return {"ready": True}

    def seconds(self, count):
        if self.prepared is None:
            raise Missing("expected a prepared case, found none")
        if cases.DEVICE == "cpu":
            start = time.perf_counter()
            done = self.prepared.run(count)
            seconds = time.perf_counter() - start
        else:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            done = self.prepared.run(count)
            end.record()
            end.synchronize()
            seconds = start.elapsed_time(end) / 1e3
        return seconds * count / done  # whole rounds of rotated operands are maybe more than was asked for


def introduction(narrow):
    hello = {"peer": "PyTorch", "version": torch.__version__}
    if cases.DEVICE == "cuda":
        torch.backends.cudnn.benchmark = True
        detail = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    else:
        if threads := os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(int(threads))
        capability = torch.backends.cpu.get_cpu_capability()
        detail = f"{torch.get_num_threads()} threads, {capability}, oneDNN"
        if narrow and not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
            raise Missing("the processor has no products in bf16 (avx512_bf16 or amx_bf16)")
    return hello | {"detail": detail} | ({"peer": "PyTorch bf16", "precision": "bf16"} if narrow else {})


def choose(device):
    """Has everything run on a device of this name."""
    if device == "cpu":
        return
    cases.DEVICE = "cuda"
    number = int(device.partition(":")[2] or 0)
    if number >= torch.cuda.device_count():
        raise Missing(f"cuda:{number}: PyTorch sees {torch.cuda.device_count()} CUDA devices")
    torch.cuda.set_device(number)


def device_name(text):
    kind, colon, number = text.partition(":")
    if text != "cpu" and (kind != "cuda" or colon and not number.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:N, found {text}")
    return text


def one_line(error):
    text = str(error) if isinstance(error, Missing) else f"{type(error).__name__}: {error}"
    return next(iter(text.strip().splitlines()), type(error).__name__)


def main(device, narrow):
    # What libraries print must not reach the harness.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(value):
        print(json.dumps(value), file=replies, flush=True)

    try:
        choose(device)
        reply(introduction(narrow))
    except Missing as error:
        reply({"missing": one_line(error)})
        return
    session = Session(narrow)
    for line in sys.stdin:
        try:
            reply(session.answer(json.loads(line)))
        except Exception as error:  # One case that PyTorch refuses must not cost the others.
            if not isinstance(error, Missing):
                traceback.print_exc()
            reply({"missing": one_line(error)})


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # the folder stays as git knows it
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=device_name, default="cpu", metavar="cpu|cuda[:N]")
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    try:
        import pytorch_arrays as arrays
        import pytorch_cases as cases
        import torch
    except ImportError as error:
        print(json.dumps({"missing": f"no PyTorch: {error}"}))
        sys.exit(0)
    main(arguments.device, arguments.bf16)
