"""A peer for tests: products of matrices by plain Python, and ways to fail.

fake_peer.py right|wrong|narrow|short|dies|hangs|absent|libraries
"""

import json
import os
import struct
import sys
import time

MODE = sys.argv[1]


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
    return tensors


def write(path, name, shape, values):
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * len(values)]}}
    header = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + struct.pack(f"<{len(values)}f", *values))


def product(case, tensors):
    m, n, k = case["m"], case["n"], case["k"]
    a, b = tensors["a"], tensors["b"]
    return [sum(a[i * k + l] * b[l * n + j] for l in range(k)) for i in range(m) for j in range(n)]


def answer(request):
    if "variants" in request:
        return {"variants": ["backwards", "forwards"]}
    if "prepare" in request:
        case = request["prepare"]
        if case["kind"] != "gemm":
            return {"missing": "this case is not supported"}
        if MODE == "dies":
            sys.exit("out of memory:\nno more bytes")
        if MODE == "hangs":
            time.sleep(100)
        c = product(case, read(request["inputs"]))
        if MODE == "wrong":
            c[3] += 1.0
        if MODE == "narrow":  # as far off as numbers of eight bits may be, and twice as fast
            c = [1.01 * value for value in c]
        rows = case["m"] - 1 if MODE == "short" else case["m"]
        write(request["outputs"], "c", [rows, case["n"]], c[: rows * case["n"]])
        answer.seconds = (0.5 if request["variant"] == "forwards" else 2.0) / (2 if MODE == "narrow" else 1)
        return {"ready": True}
    return {"seconds": answer.seconds * request["run"]}


if MODE == "absent":
    print(json.dumps({"missing": "no such library"}), flush=True)
    sys.exit()
detail = os.environ.get("LD_LIBRARY_PATH", "") if MODE == "libraries" else "one thread"
hello = {"peer": f"Fake {MODE}", "version": "1.0", "detail": detail}
print(json.dumps(hello | ({"precision": "bf16"} if MODE == "narrow" else {})), flush=True)
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
