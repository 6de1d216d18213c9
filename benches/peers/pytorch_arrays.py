"""Files of safetensors as tensors of PyTorch, with nothing but PyTorch: a machine with a GPU need not have that package,
nor NumPy."""

import json
import os

import torch

TYPES = {"F32": torch.float32, "I32": torch.int32, "U8": torch.uint8}


def read(path):
    """The tensors of a file by name, on the CPU, each in memory of its own, where it is aligned for vectors."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    data = torch.from_file(path, size=os.path.getsize(path), dtype=torch.uint8)[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in TYPES:
            raise ValueError(f"{path}: {name}: expected one of {', '.join(TYPES)}, found {entry['dtype']}")
        begin, end = entry["data_offsets"]
        tensors[name] = data[begin:end].clone().view(TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def write(path, tensors):
    """Writes contiguous tensors of f32 on the CPU, whole or not at all."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = f"{path}.partial"
    with open(partial, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    data = torch.from_file(partial, shared=True, size=8 + len(text) + end, dtype=torch.uint8)[8 + len(text) :]
    for name, tensor in tensors.items():
        begin, end = header[name]["data_offsets"]
        data[begin:end] = tensor.reshape(-1).view(torch.uint8)
    os.replace(partial, path)
