"""PyTorch beside our kernels, on the same GPU: ceilings, the shapes of timings.jsonl, and the accuracy of two trainings.

    peers.py ceilings                 bandwidth of a copy, rate of products
    peers.py operators timings.jsonl  each shape in PyTorch, one JSON object a line, and a table of ratios
    peers.py accuracy RUN RUN         whether two trainings reached the same accuracy
"""

import json
import statistics
import sys
from pathlib import Path

ROTATED_BYTES = 256 << 20  # of all sets of operands of a case: past the second-level cache, as in timings.rs
MOST_SETS = 8
SAMPLES = 9
SAMPLE_SECONDS = 0.01
CLOSE = 0.02  # how far the accuracies of fp32 and bf16 may be apart


def time(makers, bytes_each):
    """Median microseconds of `run(operands)` over rotated operands; makers = (operands(), run)."""
    import torch

    operands, run = makers
    sets = max(2, min(MOST_SETS, -(-ROTATED_BYTES // max(bytes_each, 1))))
    rotated = [operands() for _ in range(sets)]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):  # cuDNN's search happens here, outside of the capture
            for one in rotated:
                run(*one)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = [run(*one) for one in rotated]  # results stay alive: their memory is the graph's
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def sample(rounds):
        start.record()
        for _ in range(rounds):
            graph.replay()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3 / rounds / sets

    once = sample(3) * sets
    rounds = int(max(1, min(1000, SAMPLE_SECONDS * 1e6 / max(once, 0.1))))
    median = statistics.median(sample(rounds) for _ in range(SAMPLES))
    del kept
    return median


def ceilings():
    import torch

    bytes_each = 1 << 30
    copy = time((lambda: (torch.randn(bytes_each // 4, device="cuda"), torch.empty(bytes_each // 4, device="cuda")),
                 lambda x, y: y.copy_(x)), 2 * bytes_each)
    print(json.dumps({"ceiling": "copy", "gb_per_s": round(2 * bytes_each / copy / 1e3, 1)}))
    size = 8192
    for name, dtype, tf32 in [("bf16", torch.bfloat16, False), ("tf32", torch.float32, True),
                              ("fp32", torch.float32, False)]:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        matrix = lambda: torch.randn(size, size, device="cuda", dtype=dtype)
        product = time((lambda: (matrix(), matrix()), torch.matmul), ROTATED_BYTES)
        print(json.dumps({"ceiling": f"product {name}", "tflop_per_s": round(2 * size**3 / product / 1e6, 1)}))


def peer(line):
    """What the operator of a line is in PyTorch, in the layout it likes best: (operands(), run), or None."""
    import torch
    import torch.nn.functional as F

    dtype = torch.bfloat16 if line["precision"] == "bf16" else torch.float32
    torch.backends.cuda.matmul.allow_tf32 = line["precision"] == "tf32"
    torch.backends.cudnn.allow_tf32 = line["precision"] == "tf32"
    torch.backends.cudnn.benchmark = True
    name = line["operator"]
    normal = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype)
    image = lambda *shape: normal(*shape).to(memory_format=torch.channels_last)
    if name.startswith("conv2d"):
        h, w, n, c, k, r, stride, padding = (line[key] for key in ("h", "w", "n", "c", "k", "r", "stride", "padding"))
        p, q = ((size + 2 * padding - r) // stride + 1 for size in (h, w))
        filters = lambda: image(k, c, r, r)
        back = lambda mask: lambda d_y, x, f: torch.ops.aten.convolution_backward(
            d_y, x, f, [k], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask)
        both = lambda: (image(n, k, p, q), image(n, c, h, w), filters())
        if name == "conv2d_forward":
            conv = lambda x, f, b: F.conv2d(x, f, b, stride, padding)
            if not line["prelu"]:
                return lambda: (image(n, c, h, w), filters(), normal(k)), conv

            def fused(x, f, b, slope):
                y = conv(x, f, b)
                return y, F.prelu(y, slope)

            return lambda: (image(n, c, h, w), filters(), normal(k), normal(k)), fused
        if name == "conv2d_backward_data":
            data = back([True, False, False])
            if not line["prelu"]:
                return both, lambda d_y, x, f: data(d_y, x, f)[0]

            def through(d_y, x, f, slope):
                d_x = data(d_y, x, f)[0]
                return torch.ops.aten._prelu_kernel_backward(d_x, x, slope)

            return lambda: (*both(), normal(1, c, 1, 1)), through
        if name == "conv2d_backward_weight":
            return both, back([False, True, True])
    if name == "prelu_backward":
        h, w, n, c = (line[key] for key in ("h", "w", "n", "c"))

        def prelu(d_y, x, slope):
            d_x, d_slope = torch.ops.aten._prelu_kernel_backward(d_y, x, slope)
            return d_x, d_slope.sum((0, 2, 3))

        return lambda: (image(n, c, h, w), image(n, c, h, w), normal(1, c, 1, 1)), prelu
    if name == "optimizer":
        return optimizer(line)
    if name == "gather_batch":
        count, pixels, n = line["images"], line["h"] * line["w"], line["n"]
        data = lambda: (torch.randint(0, 256, (count, pixels), device="cuda", dtype=torch.uint8),
                        torch.randint(0, count, (n,), device="cuda"))
        return data, lambda images, index: (images[index].float() - 127.5) * (1 / 128)
    if name.startswith("margin_softmax"):
        return head(line)
    return None


def optimizer(line):
    """One fused update of a block of parameters."""
    import torch

    def operands():
        parameter = torch.nn.Parameter(torch.randn(line["length"], device="cuda"))
        parameter.grad = torch.randn_like(parameter)
        if line["rule"] == "sgd":
            return (torch.optim.SGD([parameter], lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-2, fused=True),)
        return (torch.optim.AdamW([parameter], lr=1e-3, weight_decay=1e-2, fused=True, capturable=True),)

    return operands, lambda rule: rule.step()


def head(line):
    """A-Softmax with m = 4 and λ = 5 as one writes it in PyTorch: cos 4θ by its Chebyshev polynomial."""
    import torch
    import torch.nn.functional as F

    n, d, classes = line["n"], line["d"], line["classes"]

    def loss(x, weight, label):
        norm = x.norm(dim=1, keepdim=True)
        cosine = (F.linear(x / norm, F.normalize(weight))).clamp(-1, 1)
        target = cosine.gather(1, label[:, None])
        segment = sum((target < bound).float() for bound in (0.70710678, 0.0, -0.70710678))
        sign = 1 - 2 * torch.remainder(segment, 2)
        psi = sign * (8 * target**4 - 8 * target**2 + 1) - 2 * segment
        logits = norm * cosine.scatter(1, label[:, None], (5 * target + psi) / 6)
        return F.cross_entropy(logits, label)

    def operands():
        gradient = line["operator"].endswith("backward")
        x = torch.randn(n, d, device="cuda", requires_grad=gradient)
        weight = torch.randn(classes, d, device="cuda", requires_grad=gradient)
        return x, weight, torch.randint(0, classes, (n,), device="cuda")

    if line["operator"].endswith("forward"):
        return operands, loss
    # Forward too: what autograd keeps from it is what ours computes again.
    return operands, lambda x, weight, label: torch.autograd.grad(loss(x, weight, label), (x, weight))


def operators(path):
    rows, wrong = [], 0
    for text in Path(path).read_text().splitlines():
        if not text.startswith("{"):
            continue  # a heading of run.sh
        line = json.loads(text)
        if "missing" in line:
            continue
        try:
            makers = peer(line)
            if makers is None:
                continue
            line["peer_us"] = round(time(makers, line["bytes"]), 2)
            line["ratio"] = round(line["peer_us"] / line["median_us"], 3)
            rows.append(line)
        except Exception as error:  # One shape that PyTorch refuses must not cost the others.
            line["peer_error"] = str(error).splitlines()[0]
            wrong += 1
        print(json.dumps(line))
    keys = ("h", "w", "n", "c", "k", "stride", "d", "classes", "rule", "length")
    print(f"{'operator':<26}{'precision':<10}{'ours µs':>10}{'PyTorch':>10}{'ratio':>7}  shape")
    for row in rows:
        shape = " ".join(f"{key}{row[key]}" for key in keys if key in row) + (" +prelu" if row.get("prelu") else "")
        print(f"{row['operator']:<26}{row['precision']:<10}{row['median_us']:>10}{row['peer_us']:>10}"
              f"{row['ratio']:>7}  {shape}")
    print(f"{len(rows)} shapes beside PyTorch, {wrong} that it refused")
    return wrong == 0


def accuracy(folders):
    """The last test accuracy of each run, and whether they are close."""
    def last(folder):
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        found = [json.loads(line).get("test_accuracy") for line in lines]
        return [value for value in found if value is not None][-1]

    found = [last(folder) for folder in folders]
    print("test accuracy: " + ", ".join(f"{value:.4f}" for value in found))
    return max(found) - min(found) <= CLOSE and min(found) > 0.9


def main(arguments):
    match arguments:
        case ["ceilings"]:
            ceilings()
            return True
        case ["operators", path]:
            return operators(path)
        case ["accuracy", *folders] if folders:
            return accuracy(folders)
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
