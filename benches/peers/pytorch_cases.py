"""The cases that PyTorch runs: each kind is a function or class that makes of its operands what is run and its results.

Operands come in our layout, [H, W, N, C] and [R, S, C, K]; they become PyTorch's, [N, C, H, W] and [K, C, R, S], before
anything is timed. On a GPU the operands of an operator are rotated past the second-level cache, and what is timed is a
CUDA graph of one run of each set.
"""

import shutil
from dataclasses import dataclass
from typing import Callable

import torch
import torch.nn.functional as F
from torch import nn

DEVICE = "cpu"
MOST_SETS = 32  # of rotated operands
WARM_UP = 3  # runs before a capture
CHECKED_STEPS = 3  # whose losses a training reports
NORM_FLOOR = 1e-12
# T_m(cos θ) = cos mθ, and the cosines at which a growing angle enters the next segment of ψ.
CHEBYSHEV = {
    1: (lambda c: c, ()),
    2: (lambda c: 2 * c * c - 1, (0.0,)),
    3: (lambda c: (4 * c * c - 3) * c, (0.5, -0.5)),
    4: (lambda c: 8 * c * c * (c * c - 1) + 1, (0.5**0.5, 0.0, -(0.5**0.5))),
}


@dataclass
class Work:
    """A prepared case: `run(operands)` once, and `named(results)` as our arrays."""

    operands: tuple
    run: Callable
    named: Callable
    inference: bool = True


# ---- layouts


def activation(array, dtype, layout):
    """From our [H, W, N, C]."""
    return array.permute(2, 3, 0, 1).to(device=DEVICE, dtype=dtype).contiguous(memory_format=layout)


def filters(array, dtype, layout):
    """From our [R, S, C, K]."""
    return array.permute(3, 2, 0, 1).to(device=DEVICE, dtype=dtype).contiguous(memory_format=layout)


def activation_back(array):
    return array.permute(2, 3, 0, 1)


def filters_back(array):
    return array.permute(2, 3, 1, 0)


def layout_of(variant):
    return torch.contiguous_format if variant.startswith("contiguous") else torch.channels_last


def dtype_of(case):
    """The type of the operands; also sets what products of f32 may be rounded to."""
    name = case.get("dtype", "f32")
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    torch.backends.cudnn.allow_tf32 = name == "tf32"
    return torch.bfloat16 if name == "bf16" else torch.float32


# ---- operators


def gemm(case, inputs, variant):
    dtype = dtype_of(case)
    a, b = (inputs[name].to(DEVICE, dtype) for name in ("a", "b"))
    operands = tuple(x.t() if flag else x for x, flag in zip((a, b), case["transposed"]))
    c = torch.empty(case["m"], case["n"], dtype=dtype, device=DEVICE)
    return Work((*operands, c), lambda a, b, c: torch.mm(a, b, out=c), lambda c: {"c": c})


def conv2d(case, inputs, variant):
    kind, dtype, layout = case["kind"], dtype_of(case), layout_of(variant)
    stride, padding = case["stride"], case["padding"]
    x, d_y = (activation(inputs[name], dtype, layout) if name in inputs else None for name in ("x", "d_y"))
    f = filters(inputs["filter"], dtype, layout) if "filter" in inputs else None
    if kind == "conv2d_forward":
        return Work((x, f), lambda x, f: F.conv2d(x, f, None, stride, padding), lambda y: {"y": activation_back(y)})
    if kind == "conv2d_backward_data":
        size = (case["batch"], case["inputs"], case["height"], case["width"])
        data = backward(stride, padding, 0)
        like = torch.empty(size, dtype=dtype, device=DEVICE, memory_format=layout)
        return Work((d_y, like, f), data, lambda d_x: {"d_x": activation_back(d_x)})
    size = (case["outputs"], case["inputs"], case["taps"], case["taps"])
    like = torch.empty(size, dtype=dtype, device=DEVICE, memory_format=layout)
    return Work((d_y, x, like), backward(stride, padding, 1), lambda d: {"d_filter": filters_back(d)})


def backward(stride, padding, which):
    """The gradient of a convolution with respect to operand `which`, as autograd calls it."""
    mask = [index == which for index in range(3)]
    conv = torch.ops.aten.convolution_backward
    return lambda d_y, x, f: conv(d_y, x, f, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask)[which]


def fused_forward(case, inputs, variant):
    dtype, layout = dtype_of(case), layout_of(variant)
    stride, padding = case["stride"], case["padding"]
    residual = activation(inputs["residual"], dtype, layout) if "residual" in inputs else None
    x, f = activation(inputs["x"], dtype, layout), filters(inputs["filter"], dtype, layout)
    bias, slope = (inputs[name].to(DEVICE, dtype) if name in inputs else None for name in ("bias", "slope"))

    def run(x, f, bias, slope, residual):
        pre = F.conv2d(x, f, bias, stride, padding)
        out = F.prelu(pre, slope)
        return pre, out if residual is None else out.add_(residual)

    return Work((x, f, bias, slope, residual), run, lambda r: {"pre": activation_back(r[0]), "out": activation_back(r[1])})


def fused_backward(case, inputs, variant):
    dtype, layout = dtype_of(case), layout_of(variant)
    data = backward(case["stride"], case["padding"], 0)
    d_y, pre = (activation(inputs[name], dtype, layout) for name in ("d_y", "pre"))
    addend = activation(inputs["addend"], dtype, layout) if "addend" in inputs else None
    slope = inputs["slope"].to(DEVICE, dtype).reshape(1, -1, 1, 1)

    def run(d_y, pre, f, slope, addend):
        d_x = data(d_y, pre, f)
        if addend is not None:
            d_x.add_(addend)
        d_pre, d_slope = torch.ops.aten._prelu_kernel_backward(d_x, pre, slope)
        return d_pre, d_slope.sum((0, 2, 3))

    operands = (d_y, pre, filters(inputs["filter"], dtype, layout), slope, addend)
    return Work(operands, run, lambda r: {"d_pre": activation_back(r[0]), "d_slope": r[1]})


def prelu_backward(case, inputs, variant):
    dtype, layout = dtype_of(case), layout_of(variant)
    d_y, x = (activation(inputs[name], dtype, layout) for name in ("d_y", "x"))
    slope = inputs["slope"].to(DEVICE, dtype).reshape(1, -1, 1, 1)

    def run(d_y, x, slope):
        d_x, d_slope = torch.ops.aten._prelu_kernel_backward(d_y, x, slope)
        return d_x, d_slope.sum((0, 2, 3))

    return Work((d_y, x, slope), run, lambda r: {"d_x": activation_back(r[0]), "d_slope": r[1]})


def gather_batch(case, inputs, variant):
    """`images` u8 [images, bytes], `index` i32 [N]."""
    images, index = inputs["images"].to(DEVICE), inputs["index"].to(DEVICE).long()
    return Work((images, index), lambda images, index: normalised(images[index]), lambda x: {"x": x})


def copy(case, inputs, variant):
    """The ceiling of what only moves memory: each byte read and written once."""
    x = inputs["x"].to(DEVICE)
    return Work((x, torch.empty_like(x)), lambda x, y: y.copy_(x), lambda y: {"y": y})


def optimizer(case, inputs, variant):
    p = nn.Parameter(inputs["p"].to(DEVICE))
    p.grad = inputs["g"].to(DEVICE)
    rule = sgd([{"params": [p]}], case, variant)
    rule.state[p]["momentum_buffer"] = inputs["v"].to(DEVICE)

    def named(_):
        return {"p": p.detach(), "v": rule.state[p]["momentum_buffer"]}

    return Work((rule,), lambda rule: rule.step(), named, inference=False)


def sgd(groups, case, implementation):
    settings = {"momentum": case["momentum"], "nesterov": case.get("nesterov", False), "weight_decay": case["decay"]}
    return torch.optim.SGD(groups, lr=case["rate"], **settings, **{implementation: True})


# ---- head and networks


def a_softmax(x, weight, label, m, blend):
    """A-Softmax with margin m, where `blend` is λ: cos mθ by its Chebyshev polynomial."""
    norm = x.norm(dim=1, keepdim=True).clamp_min(NORM_FLOOR)
    cosine = F.linear(x / norm, F.normalize(weight, eps=NORM_FLOOR))
    target = cosine.gather(1, label[:, None])
    polynomial, bounds = CHEBYSHEV[m]
    segment = sum(((target <= bound).to(x.dtype) for bound in bounds), torch.zeros_like(target))
    sign = 1 - 2 * torch.remainder(segment, 2)
    psi = sign * polynomial(target) - 2 * segment
    # Under autocast the products are in bf16, and what is computed of them in fp32.
    logits = norm * cosine.scatter(1, label[:, None], ((blend * target + psi) / (1 + blend)).to(cosine.dtype))
    return F.cross_entropy(logits, label)


def head(case, inputs, variant):
    dtype_of(case)
    x, w = (inputs[name].to(DEVICE, torch.float32).requires_grad_() for name in ("x", "w"))
    label = inputs["labels"].to(DEVICE).long()
    loss_of = torch.compile(a_softmax) if "compiled" in variant else a_softmax
    context = narrow(case)

    def run(x, w, label):
        with context():
            loss = loss_of(x, w, label, case["m"], case["lambda"])
        return loss.detach(), *torch.autograd.grad(loss, (x, w))

    def named(results):
        loss, d_x, d_w = results
        return {"loss": loss.reshape(1), "d_x": d_x, "d_w": d_w}

    return Work((x, w, label), run, named, inference=False)


def normalised(pixels):
    return (pixels.float() - 127.5) * (1 / 128)


class Unit(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.prelu1 = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.prelu2 = nn.PReLU(channels)

    def forward(self, x):
        return x + self.prelu2(self.conv2(self.prelu1(self.conv1(x))))


class Stage(nn.Sequential):
    def __init__(self, inputs, channels, units):
        super().__init__()
        self.add_module("conv", nn.Conv2d(inputs, channels, 3, 2, 1))
        self.add_module("prelu", nn.PReLU(channels))
        for unit in range(units):
            self.add_module(f"unit{unit + 1}", Unit(channels))


class Network(nn.Module):
    """A SphereFace network; its parameters have the names and shapes of our model.safetensors."""

    def __init__(self, case, inputs, layout, trained):
        super().__init__()
        self.layout, self.m, self.blend = layout, case["m"], case["lambda"]
        height, width, channels = case["network"]["image"]
        self.stages = nn.Sequential()
        for index, (outputs, units) in enumerate(case["network"]["stages"]):
            self.stages.add_module(f"stage{index + 1}", Stage(channels, outputs, units))
            height, width, channels = (height + 1) // 2, (width + 1) // 2, outputs
        self.embedding = nn.Linear(channels * height * width, case["network"]["embedding"])
        self.classifier = nn.Linear(case["network"]["embedding"], case["classes"], bias=False)
        named = {f"stages.{name}" if name.startswith("stage") else name: value for name, value in inputs.items()}
        self.load_state_dict({name: value for name, value in named.items() if name not in ("images", "labels")})
        self.to(device=DEVICE, memory_format=layout).requires_grad_(trained)

    def forward(self, pixels):
        """From u8 [N, C, H, W] to [N, D]."""
        x = normalised(pixels).contiguous(memory_format=self.layout)
        return self.embedding(self.stages(x).flatten(1))

    def loss(self, pixels, labels):
        embedding = self(pixels).float()
        with torch.autocast(DEVICE, enabled=False):
            return a_softmax(embedding, self.classifier.weight, labels, self.m, self.blend)

    def groups(self, rate):
        """Biases are trained at twice the rate and without decay."""
        named = list(self.named_parameters())
        biases = [value for name, value in named if name.endswith(".bias")]
        others = [value for name, value in named if not name.endswith(".bias")]
        return [{"params": others}, {"params": biases, "lr": 2 * rate, "weight_decay": 0.0}]


def narrow(case):
    """A context in which convolutions and products are bf16, if the case asks for it."""
    return lambda: torch.autocast(DEVICE, torch.bfloat16, enabled=case.get("dtype") == "bf16")


def batches(inputs):
    """u8 [S, N, C, H, W] and their labels, on the device."""
    images = inputs["images"].permute(0, 1, 4, 2, 3).contiguous().to(DEVICE)
    return images, inputs["labels"].to(DEVICE).long()


def captured(step, inputs):
    """`step` as a CUDA graph with inputs of its own."""
    own = [value.clone() for value in inputs]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):  # cuDNN's search happens here, outside of the capture
            step(*own)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step(*own)

    def replay(*values):
        for mine, value in zip(own, values):
            mine.copy_(value)
        graph.replay()
        return result

    return replay


class TrainingStep:
    """Steps one after the other, each with the next batch."""

    def __init__(self, case, inputs, variant):
        dtype_of(case)
        self.network = Network(case, inputs, layout_of(variant), trained=True)
        self.rule = sgd(self.network.groups(case["rate"]), case, "fused")
        self.images, self.labels = batches(inputs)
        self.narrow, self.done, self.step = narrow(case), 0, self.eager
        self.loss = torch.compile(self.network.loss) if "compiled" in variant else self.network.loss
        if "graph" in variant:
            self.step = self.captured()
        self.outputs = {"losses": torch.stack([self.next().clone() for _ in range(CHECKED_STEPS)])}

    def eager(self, images, labels):
        with self.narrow():
            loss = self.loss(images, labels)
        loss.backward()
        self.rule.step()
        self.rule.zero_grad(set_to_none=True)
        return loss.detach()

    def captured(self):
        """The graph of a step; what the steps before it changed is undone."""
        parameters = list(self.network.parameters())
        before = [value.detach().clone() for value in parameters]
        replay = captured(self.eager, (self.images[0], self.labels[0]))
        with torch.no_grad():
            for value, old in zip(parameters, before):
                value.copy_(old)
                self.rule.state[value]["momentum_buffer"].zero_()
        return replay

    def next(self):
        index = self.done % len(self.images)
        self.done += 1
        return self.step(self.images[index], self.labels[index])

    def run(self, count):
        for _ in range(count):
            self.next()
        return count


class Forward:
    """Embeds the batches one after the other."""

    def __init__(self, case, inputs, variant):
        dtype_of(case)
        network = Network(case, inputs, layout_of(variant), trained=False)
        self.images, _ = batches({"labels": torch.zeros(1), **inputs})
        self.narrow, self.done, self.embed = narrow(case), 0, network.eval()
        # Compiled for weights that are constants: packed for oneDNN once.
        compiled = "compiled" in variant
        self.context = torch.no_grad if compiled else torch.inference_mode
        if compiled:
            torch._inductor.config.freezing = DEVICE == "cpu"
            self.embed = torch.compile(network)
        with self.context():
            self.step = captured(self.eager, self.images[:1]) if "graph" in variant else self.eager
            self.outputs = {"embeddings": self.next().clone()}

    def eager(self, images):
        with self.narrow():
            return self.embed(images)

    def next(self):
        index = self.done % len(self.images)
        self.done += 1
        return self.step(self.images[index])

    def run(self, count):
        with self.context():
            for _ in range(count):
                self.next()
        return count


class Operator:
    """One operator on its operands, or on a GPU on one set of operands after the other."""

    def __init__(self, case, inputs, variant):
        make = OPERATORS[case["kind"]]
        self.work = make(case, inputs, variant)
        self.context = torch.inference_mode if self.work.inference else torch.enable_grad
        self.outputs = self.work.named(self.run_once(self.work))
        if DEVICE == "cuda":
            self.outputs = {name: value.clone() for name, value in self.outputs.items()}
            self.rotate(lambda: make(case, inputs, variant))

    def run_once(self, work):
        with self.context():
            return work.run(*work.operands)

    def rotate(self, make):
        cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        before = torch.cuda.memory_allocated()
        works = [make()]
        each = max(1, torch.cuda.memory_allocated() - before)
        sets = max(2, min(MOST_SETS, -(-2 * cache // each)))
        works += [make() for _ in range(sets - 1)]
        replay = captured(lambda: [self.run_once(work) for work in works], ())
        self.works, self.sets, self.replay = works, sets, replay

    def run(self, count):
        """Runs at least so often; how often it was."""
        if DEVICE == "cpu":
            with self.context():
                run, operands = self.work.run, self.work.operands
                for _ in range(count):
                    run(*operands)
            return count
        rounds = -(-count // self.sets)
        for _ in range(rounds):
            self.replay()
        return rounds * self.sets


OPERATORS = {
    "gemm": gemm,
    "conv2d_forward": conv2d,
    "conv2d_backward_data": conv2d,
    "conv2d_backward_weight": conv2d,
    "fused_forward": fused_forward,
    "fused_backward": fused_backward,
    "prelu_backward": prelu_backward,
    "gather_batch": gather_batch,
    "copy": copy,
    "optimizer": optimizer,
    "head": head,
}
KINDS = {**dict.fromkeys(OPERATORS, Operator), "training_step": TrainingStep, "forward": Forward}


def variants(case):
    """The ways to run a case that may be the fastest, the likeliest first."""
    kind = case["kind"]
    if kind not in KINDS:
        return []
    if kind == "optimizer":
        return ["fused", "foreach"]
    if kind == "head":
        return ["contiguous"] if DEVICE == "cpu" else ["contiguous", "contiguous compiled"]
    if kind in ("gemm", "gather_batch", "copy"):
        return ["contiguous"]
    layouts = ["channels_last", "contiguous"]
    if kind not in ("training_step", "forward"):
        return layouts
    if DEVICE == "cuda":
        return ["channels_last graph", "channels_last", "channels_last compiled"]
    return layouts + (["channels_last compiled"] if shutil.which("c++") or shutil.which("g++") else [])
