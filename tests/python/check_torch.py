"""Runs the README's snippet in FOLDER and compares what its `embed` makes of images.bin with embeddings.bin.

Usage: check_torch.py FOLDER SNIPPET HEIGHT WIDTH CHANNELS
Prints the largest error of each output, relative to the largest value of its row. Works without NumPy, which
distributions do not install with PyTorch in a version that fits.
"""

import os
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch

snippet = Path(sys.argv[2]).read_text()
os.chdir(sys.argv[1])
height, width, channels = map(int, sys.argv[3:6])
names = {}
exec(snippet, names)


def read(name, dtype):
    return torch.frombuffer(bytearray(Path(name).read_bytes()), dtype=dtype)


images = read("images.bin", torch.uint8).reshape(-1, height, width, channels)
with torch.no_grad():
    embeddings = names["embed"](((images.float() - 127.5) / 128).permute(0, 3, 1, 2))
    logits = embeddings @ names["w"]["classifier.weight"].T
for name, found in (("embeddings", embeddings), ("logits", logits)):
    expected = read(f"{name}.bin", torch.float32).reshape(len(images), -1)
    assert found.shape == expected.shape, (name, found.shape, expected.shape)
    error = ((found - expected).abs().amax(1) / expected.abs().amax(1)).max().item()
    print(f"{name}: {error:.1e}")
    assert error < 1e-5, name
