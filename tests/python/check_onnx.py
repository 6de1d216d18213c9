"""Runs model.onnx on images.bin and compares its outputs with embeddings.bin and logits.bin.

Usage: check_onnx.py FOLDER HEIGHT WIDTH CHANNELS
Prints the largest error of each output, relative to the largest value of its row.
"""

import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime

folder = Path(sys.argv[1])
height, width, channels = map(int, sys.argv[2:5])

model = onnx.load(folder / "model.onnx")
onnx.checker.check_model(model, full_check=True)
metadata = {entry.key: entry.value for entry in model.metadata_props}
assert metadata["loss"] == "test" and metadata["seed"] == "1", metadata
assert f"[N, {channels}, {height}, {width}]" in metadata["input"], metadata

bytes_ = numpy.fromfile(folder / "images.bin", numpy.uint8).reshape(-1, height, width, channels)
images = ((bytes_.astype(numpy.float32) - 127.5) / 128).transpose(0, 3, 1, 2)
session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
for batch in (len(images), 1):
    parts = [session.run(["embeddings", "logits"], {"images": part}) for part in numpy.split(images, len(images) // batch)]
    for name, found in zip(("embeddings", "logits"), map(numpy.concatenate, zip(*parts))):
        expected = numpy.fromfile(folder / f"{name}.bin", numpy.float32).reshape(len(images), -1)
        assert found.shape == expected.shape, (name, found.shape, expected.shape)
        error = numpy.max(numpy.abs(found - expected).max(1) / numpy.abs(expected).max(1))
        print(f"{name} in batches of {batch}: {error:.1e}")
        assert error < 1e-5, name
