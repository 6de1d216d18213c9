"""Drives every peer through its protocol on small cases and compares what it computes with NumPy in 64 bits.

    check.py PEERS [PEER ...]

PEERS is the binary of this workspace; the interpreter that runs this must have requirements.txt. Without names all peers
are checked, of: pytorch, pytorch-bf16, gemm, candle, burn.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

CLOSE = 2e-5  # of the largest value
CLOSE_BF16 = 3e-2
NETWORK = {"image": [14, 10, 3], "stages": [[6, 1], [9, 2]], "embedding": 5}
RANDOM = np.random.default_rng(1)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


# ---- the truth, in our layout: activations [H, W, N, C], filters [R, S, C, K]


def taps(case):
    """For each tap of the filter the input pixels under it, as slices of the padded input."""
    p, q = (output_size(case, case[size]) for size in ("height", "width"))
    stride = case["stride"]
    for r in range(case["taps"]):
        for s in range(case["taps"]):
            yield r, s, slice(r, r + (p - 1) * stride + 1, stride), slice(s, s + (q - 1) * stride + 1, stride)


def output_size(case, size):
    return (size + 2 * case["padding"] - case["taps"]) // case["stride"] + 1


def padded(case, x):
    around = (case["padding"], case["padding"])
    return np.pad(x, (around, around, (0, 0), (0, 0)))


def forward(case, x, f):
    x = padded(case, x)
    return sum(x[rows, columns] @ f[r, s] for r, s, rows, columns in taps(case))


def backward_data(case, d_y, f):
    d_x = padded(case, np.zeros((case["height"], case["width"], d_y.shape[2], f.shape[2])))
    for r, s, rows, columns in taps(case):
        d_x[rows, columns] += d_y @ f[r, s].T
    edge = case["padding"]
    return d_x[edge : d_x.shape[0] - edge, edge : d_x.shape[1] - edge]


def backward_weight(case, x, d_y):
    x = padded(case, x)
    d_f = np.zeros((case["taps"], case["taps"], x.shape[3], d_y.shape[3]))
    for r, s, rows, columns in taps(case):
        d_f[r, s] = np.einsum("pqnc,pqnk->ck", x[rows, columns], d_y)
    return d_f


def prelu(x, slope):
    return np.where(x > 0, x, slope * x)


def prelu_backward(d_y, x, slope):
    return np.where(x > 0, d_y, slope * d_y), np.where(x > 0, 0, d_y * x).sum((0, 1, 2))


def head(case, x, w, labels):
    """Loss and gradients of A-Softmax, by the angle itself and not by its polynomial."""
    m, blend, rows = case["m"], case["lambda"], np.arange(len(x))
    norm, lengths = (np.linalg.norm(a, axis=1, keepdims=True) for a in (x, w))
    x_hat, w_hat = x / norm, w / lengths
    cosine = x_hat @ w_hat.T
    c = cosine[rows, labels]
    theta = np.arccos(c)
    k = np.floor(m * theta / np.pi)
    psi = (-1) ** k * np.cos(m * theta) - 2 * k
    psi_slope = (-1) ** k * m * np.sin(m * theta) / np.sin(theta)
    h, h_slope = (blend * c + psi) / (1 + blend), (blend + psi_slope) / (1 + blend)
    bent = cosine.copy()
    bent[rows, labels] = h
    logits = norm * bent
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    p = shifted / shifted.sum(1, keepdims=True)
    loss = -np.log(p[rows, labels]).mean()
    d_logits = p.copy()
    d_logits[rows, labels] -= 1
    d_logits /= len(x)
    d_norm = (d_logits * bent).sum(1, keepdims=True)
    d_cosine = d_logits * norm
    d_cosine[rows, labels] *= h_slope
    through = lambda d, hat, length: (d - (d * hat).sum(1, keepdims=True) * hat) / length
    d_x = d_norm * x_hat + through(d_cosine @ w_hat, x_hat, norm)
    d_w = through(d_cosine.T @ x_hat, w_hat, lengths)
    return loss, d_x, d_w


def sgd(case, p, g, v, rate, decay):
    g = g + decay * p
    v = case["momentum"] * v + g
    return p - rate * (g + case["momentum"] * v if case.get("nesterov") else v), v


class Network:
    """Forward and backward pass by hand, on parameters with PyTorch's names and layout."""

    def __init__(self, parameters):
        self.w = {name: value.astype(np.float64) for name, value in parameters.items()}
        self.tape, self.gradients = [], {}

    def conv(self, name, x, stride):
        f = self.w[f"{name}.weight"].transpose(2, 3, 1, 0)
        geometry = dict(height=x.shape[0], width=x.shape[1], taps=3, stride=stride, padding=1)
        bias = self.w.get(f"{name}.bias")

        def back(d_y):
            self.gradients[f"{name}.weight"] = backward_weight(geometry, x, d_y).transpose(3, 2, 0, 1)
            if bias is not None:
                self.gradients[f"{name}.bias"] = d_y.sum((0, 1, 2))
            return backward_data(geometry, d_y, f)

        self.tape.append(back)
        return forward(geometry, x, f) + (0 if bias is None else bias)

    def prelu(self, name, x):
        slope = self.w[f"{name}.weight"]

        def back(d_y):
            d_x, self.gradients[f"{name}.weight"] = prelu_backward(d_y, x, slope)
            return d_x

        self.tape.append(back)
        return prelu(x, slope)

    def unit(self, name, x):
        outer, self.tape = self.tape, []
        y = x
        for part in (1, 2):
            y = self.prelu(f"{name}.prelu{part}", self.conv(f"{name}.conv{part}", y, 1))
        inner, self.tape = self.tape, outer

        def back(d_y):
            d = d_y
            for step in reversed(inner):
                d = step(d)
            return d + d_y

        self.tape.append(back)
        return x + y

    def embed(self, network, images):
        self.tape = []
        x = (images.astype(np.float64) - 127.5) / 128
        x = x.transpose(1, 2, 0, 3)
        for stage, (_, units) in enumerate(network["stages"], 1):
            x = self.prelu(f"stage{stage}.prelu", self.conv(f"stage{stage}.conv", x, 2))
            for unit in range(1, units + 1):
                x = self.unit(f"stage{stage}.unit{unit}", x)
        shape = x.transpose(2, 3, 0, 1).shape
        flat = x.transpose(2, 3, 0, 1).reshape(shape[0], -1)
        weight = self.w["embedding.weight"]

        def back(d_y):
            self.gradients["embedding.weight"], self.gradients["embedding.bias"] = d_y.T @ flat, d_y.sum(0)
            return (d_y @ weight).reshape(shape).transpose(2, 3, 0, 1)

        self.tape.append(back)
        return flat @ weight.T + self.w["embedding.bias"]

    def losses(self, case, images, labels, steps):
        states, losses = {name: np.zeros_like(value) for name, value in self.w.items()}, []
        for step in range(steps):
            at = step % len(images)
            x = self.embed(case["network"], images[at])
            loss, d, self.gradients["classifier.weight"] = head(case, x, self.w["classifier.weight"], labels[at])
            losses.append(loss)
            for back in reversed(self.tape):
                d = back(d)
            for name, g in self.gradients.items():
                rate, decay = (2 * case["rate"], 0) if name.endswith(".bias") else (case["rate"], case["decay"])
                self.w[name], states[name] = sgd(case, self.w[name], g, states[name], rate, decay)
        return np.array(losses)


# ---- cases: the case, its inputs, and what should come out


def wide(inputs):
    return {name: value.astype(np.float64) if value.dtype == np.float32 else value for name, value in inputs.items()}


def gemm_cases():
    for transposed in ([False, False], [True, False], [False, True], [True, True]):
        a, b = normal(17, 33), normal(33, 21)
        inputs = {"a": a.T.copy() if transposed[0] else a, "b": b.T.copy() if transposed[1] else b}
        case = {"kind": "gemm", "m": 17, "n": 21, "k": 33, "transposed": transposed, "dtype": "f32"}
        expected = {"c": a.astype(np.float64) @ b}
        yield case, inputs, expected
    yield case | {"dtype": "bf16"}, inputs, expected


def conv_cases():
    for height, width, stride in ((9, 7, 1), (8, 12, 2), (7, 11, 2)):
        size = {"height": height, "width": width, "batch": 3, "inputs": 5, "outputs": 6, "taps": 3, "stride": stride}
        size |= {"padding": 1, "dtype": "f32"}
        p, q = (output_size(size, size[name]) for name in ("height", "width"))
        inputs = {"x": normal(height, width, 3, 5), "filter": normal(3, 3, 5, 6), "d_y": normal(p, q, 3, 6)}
        inputs |= {"bias": normal(6), "slope": normal(6), "residual": normal(p, q, 3, 6), "pre": normal(height, width, 3, 5)}
        inputs |= {"addend": normal(height, width, 3, 5), "data_slope": normal(5)}
        v = wide(inputs)
        some = lambda *names: {name: inputs[name] for name in names}
        d_x = backward_data(size, v["d_y"], v["filter"])
        pre = forward(size, v["x"], v["filter"]) + v["bias"]
        d_pre, d_slope = prelu_backward(d_x + v["addend"], v["pre"], v["data_slope"])
        for dtype in ("f32", "bf16"):
            case = size | {"kind": "conv2d_forward", "dtype": dtype}
            yield case, some("x", "filter"), {"y": pre - v["bias"]}
        yield size | {"kind": "conv2d_backward_data"}, some("d_y", "filter"), {"d_x": d_x}
        d_filter = backward_weight(size, v["x"], v["d_y"])
        yield size | {"kind": "conv2d_backward_weight"}, some("x", "d_y"), {"d_filter": d_filter}
        fused = some("x", "filter", "bias", "slope", "residual")
        yield size | {"kind": "fused_forward"}, fused, {"pre": pre, "out": v["residual"] + prelu(pre, v["slope"])}
        fused = some("d_y", "filter", "pre", "addend") | {"slope": inputs["data_slope"]}
        yield size | {"kind": "fused_backward"}, fused, {"d_pre": d_pre, "d_slope": d_slope}


def head_cases():
    for m in (1, 2, 3, 4):
        case = {"kind": "head", "classes": 13, "dimension": 4, "batch": 29, "m": m, "lambda": 5.0, "dtype": "f32"}
        inputs = {"x": normal(29, 4), "w": normal(13, 4), "labels": RANDOM.integers(0, 13, 29).astype(np.int32)}
        v = wide(inputs)
        loss, d_x, d_w = head(case, v["x"], v["w"], v["labels"])
        yield case, inputs, {"loss": np.array([loss]), "d_x": d_x, "d_w": d_w}


def optimizer_cases():
    for nesterov in (False, True):
        case = {"kind": "optimizer", "length": 1000, "momentum": 0.9, "decay": 5e-4, "rate": 0.1, "nesterov": nesterov}
        inputs = {"p": normal(1000), "g": normal(1000), "v": normal(1000)}
        v = wide(inputs)
        p, state = sgd(case, v["p"], v["g"], v["v"], case["rate"], case["decay"])
        yield case, inputs, {"p": p, "v": state}


def network_cases():
    batch, steps, classes = 7, 2, 4
    height, width, channels = NETWORK["image"]
    parameters = {}
    scaled = lambda *shape: normal(*shape) * np.float32(1 / np.sqrt(np.prod(shape[1:])))
    for stage, (outputs, units) in enumerate(NETWORK["stages"], 1):
        height, width = (height + 1) // 2, (width + 1) // 2
        parameters |= {f"stage{stage}.conv.weight": scaled(outputs, channels, 3, 3), f"stage{stage}.conv.bias": normal(outputs)}
        parameters[f"stage{stage}.prelu.weight"] = normal(outputs)
        for unit in range(1, units + 1):
            for part in (1, 2):
                parameters[f"stage{stage}.unit{unit}.conv{part}.weight"] = scaled(outputs, outputs, 3, 3)
                parameters[f"stage{stage}.unit{unit}.prelu{part}.weight"] = normal(outputs)
        channels = outputs
    parameters["embedding.weight"] = scaled(NETWORK["embedding"], channels * height * width)
    parameters["embedding.bias"] = normal(NETWORK["embedding"])
    parameters["classifier.weight"] = normal(classes, NETWORK["embedding"])
    images = RANDOM.integers(0, 256, (steps, batch, *NETWORK["image"])).astype(np.uint8)
    labels = RANDOM.integers(0, classes, (steps, batch)).astype(np.int32)
    inputs = {**parameters, "images": images, "labels": labels}
    case = {"network": NETWORK, "batch": batch, "classes": classes, "m": 4, "lambda": 5.0, "momentum": 0.9, "decay": 5e-4}
    case |= {"rate": 0.02, "steps": steps}
    for nesterov, dtype in ((False, "f32"), (True, "f32"), (True, "bf16")):
        case = case | {"kind": "training_step", "nesterov": nesterov, "dtype": dtype}
        yield case, inputs, {"losses": Network(parameters).losses(case, images, labels, 3)}
    yield case | {"kind": "forward", "dtype": "f32"}, inputs, {"embeddings": Network(parameters).embed(NETWORK, images[0])}


# ---- peers


class Peer:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.introduction = self.read()

    def read(self):
        return json.loads(self.process.stdout.readline() or '{"missing": "the peer ended"}')

    def ask(self, **request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.read()

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def check(peer, case, inputs, expected, folder):
    """Prints a line for each variant; how many are right, or None if one is wrong."""
    right, count = True, 0
    shape = " ".join(f"{key}={case[key]}" for key in ("dtype", "height", "m", "nesterov") if key in case)
    shape += f" transposed={case['transposed']}" if "transposed" in case else ""
    paths = {"inputs": str(folder / "inputs.safetensors"), "outputs": str(folder / "outputs.safetensors")}
    save_file(inputs, paths["inputs"])
    for variant in peer.ask(variants=case)["variants"]:
        name = f"  {case['kind']:<24}{shape:<38}{variant:<24}"
        answer = peer.ask(prepare=case, **paths, variant=variant)
        if not answer.get("ready"):
            print(f"{name}REFUSED: {answer.get('missing')}")
            right = False
            continue
        found = load_file(paths["outputs"])
        error = max(distance(found.get(key), value) for key, value in expected.items())
        seconds = peer.ask(run=2).get("seconds", 0.0)
        is_narrow = "bf16" in (case.get("dtype"), peer.introduction.get("precision"))
        close = error < (CLOSE_BF16 if is_narrow else CLOSE) and seconds > 0
        print(f"{name}{error:.1e}{'' if close else '  WRONG'}")
        right, count = right and close, count + 1
    return count if right else None


def distance(found, expected):
    if found is None or found.shape != expected.shape or found.dtype != np.float32 or not np.isfinite(found).all():
        return np.inf
    return np.abs(found - expected).max() / np.abs(expected).max()


def main(binary, names):
    here = Path(__file__).parent
    pytorch = [sys.executable, str(here / "pytorch.py")]
    commands = {"pytorch": pytorch, "pytorch-bf16": [*pytorch, "--bf16"]}
    commands |= {name: [binary, name] for name in ("gemm", "candle", "burn")}
    makers = (gemm_cases, conv_cases, head_cases, optimizer_cases, network_cases)
    cases = [case for maker in makers for case in maker()]
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names or commands:
            peer = Peer(commands[name])
            print(json.dumps(peer.introduction))
            missing = "missing" in peer.introduction
            checked = [] if missing else [check(peer, *case, Path(folder)) for case in cases]
            if None in checked or sum(checked) == 0 or peer.close() != 0:
                wrong.append(name)
    print(f"wrong: {', '.join(wrong)}" if wrong else "all peers agree with NumPy")
    return not wrong


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(0 if main(sys.argv[1], sys.argv[2:]) else 1)
