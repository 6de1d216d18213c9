"""PyTorch as a peer of `cargo xtask bench`: one JSON object a line on stdin and stdout, as README.md beside it says.

    pytorch.py [--device cpu|cuda]
"""

import json
import os
import sys
import time
import traceback


class Missing(Exception):
    """Why a case or variant is not supported, in one line."""


class Session:
    """What the harness prepared last."""

    def __init__(self):
        self.prepared = None

    def answer(self, request):
        if "variants" in request:
            return {"variants": cases.variants(request["variants"])}
        if "prepare" in request:
            return self.prepare(request)
        if "run" in request:
            return {"seconds": self.seconds(request["run"])}
        raise Missing(f"expected variants, prepare or run, found {sorted(request)}")

    def prepare(self, request):
        case, variant = request["prepare"], request.get("variant") or ""
        known = cases.variants(case)
        if not known:
            raise Missing("this case is not supported")
        if variant not in known:
            raise Missing(f"{case['kind']}: expected a variant of {known}, found {variant!r}")
        self.prepared = None  # its memory is free before the next takes its own
        torch.manual_seed(0)
        self.prepared = cases.KINDS[case["kind"]](case, load_file(request["inputs"]), variant)
        outputs = {name: value.detach().float().cpu().contiguous() for name, value in self.prepared.outputs.items()}
        partial = f"{request['outputs']}.partial"
        save_file(outputs, partial)
        os.replace(partial, request["outputs"])
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


def introduction():
    if cases.DEVICE == "cuda":
        if not torch.cuda.is_available():
            raise Missing("PyTorch sees no CUDA device")
        torch.backends.cudnn.benchmark = True
        detail = f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    else:
        if threads := os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(int(threads))
        capability = torch.backends.cpu.get_cpu_capability()
        detail = f"{torch.get_num_threads()} threads, {capability}, oneDNN"
    return {"peer": "PyTorch", "version": torch.__version__, "detail": detail}


def one_line(error):
    text = str(error) if isinstance(error, Missing) else f"{type(error).__name__}: {error}"
    return next(iter(text.strip().splitlines()), type(error).__name__)


def main():
    # What libraries print must not reach the harness.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(value):
        print(json.dumps(value), file=replies, flush=True)

    try:
        reply(introduction())
    except Missing as error:
        reply({"missing": one_line(error)})
        return
    session = Session()
    for line in sys.stdin:
        try:
            reply(session.answer(json.loads(line)))
        except Exception as error:  # One case that PyTorch refuses must not cost the others.
            if not isinstance(error, Missing):
                traceback.print_exc()
            reply({"missing": one_line(error)})


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # the folder stays as git knows it
    try:
        import pytorch_cases as cases
        import torch
        from safetensors.torch import load_file, save_file
    except ImportError as error:
        print(json.dumps({"missing": f"no PyTorch with safetensors: {error}"}))
        sys.exit(0)
    match sys.argv[1:]:
        case [] | ["--device", "cpu"]:
            main()
        case ["--device", "cuda"]:
            cases.DEVICE = "cuda"
            main()
        case _:
            sys.exit(__doc__)
