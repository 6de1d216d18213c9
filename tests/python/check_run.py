"""Reads what a run left with NumPy, ONNX Runtime and TensorBoard, and compares it with the run's log.

Usage: check_run.py FOLDER
"""

import csv
import json
import sys
from pathlib import Path

import numpy
import onnxruntime
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector import projector_config_pb2
from tensorboard.plugins.projector.projector_plugin import _read_tensor_tsv_file

folder = Path(sys.argv[1])
log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
steps = [line for line in log if line["kind"] == "step"]
epochs = [line for line in log if line["kind"] == "epoch"]
tags = {
    "train/loss": (steps, "loss"),
    "train/accuracy": (steps, "accuracy"),
    "train/accuracy_penalised": (steps, "accuracy_penalised"),
    "train/gradient_norm": (steps, "gradient_norm"),
    "train/feature_norm": (steps, "feature_norm"),
    "schedule/rate": (steps, "rate"),
    "schedule/lambda": (steps, "lambda"),
    "epoch/train_loss": (epochs, "train_loss"),
    "epoch/test_accuracy": (epochs, "test_accuracy"),
}

# Scalars: every checksum is verified by the reader, which drops what does not fit.
events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
assert set(events.Tags()["scalars"]) == set(tags), events.Tags()
for tag, (lines, key) in tags.items():
    found = [(event.step, event.value) for event in events.Scalars(tag)]
    assert found == [(line["step"], float(numpy.float32(line[key]))) for line in lines], tag
walls = [event.wall_time for event in events.Scalars("train/loss")]
seconds = [line["seconds"] for line in steps]
assert numpy.allclose(numpy.diff(walls), numpy.diff(seconds), atol=1e-5), "wall time"

# The same numbers in curves.csv, which keeps all digits.
rows = list(csv.DictReader((folder / "curves.csv").open()))
assert len(rows) == len(steps)
for tag, (lines, key) in tags.items():
    found = [(int(row["step"]), float(row[key])) for row in rows if row[key]]
    assert found == [(line["step"], line[key]) for line in lines], key

# Embeddings.
points = numpy.load(folder / "embeddings.npy")
labels = numpy.load(folder / "embeddings.labels.npy")
assert points.dtype == numpy.float32 and labels.dtype == numpy.uint8 and len(points) == len(labels)
table = numpy.loadtxt(folder / "embeddings.csv", delimiter=",", skiprows=1, dtype=numpy.float64)
assert (table[:, 0] == labels).all() and (table[:, 1:].astype(numpy.float32) == points).all()

# The projector, with its own reader.
board = folder / "tensorboard"
config = text_format.Parse((board / "projector_config.pbtxt").read_text(), projector_config_pb2.ProjectorConfig())
[embedding] = config.embeddings
assert tuple(embedding.tensor_shape) == points.shape
assert (_read_tensor_tsv_file(str(board / embedding.tensor_path)) == points).all()
metadata = list(csv.DictReader((board / embedding.metadata_path).open(), delimiter="\t"))
assert [int(row["label"]) for row in metadata] == labels.tolist()
accuracy = numpy.mean([row["label"] == row["predicted"] for row in metadata])
summary = json.loads((folder / "summary.json").read_text())
assert abs(accuracy - summary["runs"][0]["test_accuracy"]) < 1e-9, accuracy
width, height = embedding.sprite.single_image_dim
sprite = Image.open(board / embedding.sprite.image_path)
side = int(numpy.ceil(numpy.sqrt(len(points))))
assert sprite.size == (side * width, side * height) and numpy.asarray(sprite).any()

# The model makes these embeddings of these images, and its logits the accuracy.
tiles = numpy.asarray(sprite).reshape(side, height, side, width).swapaxes(1, 2).reshape(-1, 1, height, width)
images = (tiles[: len(points)].astype(numpy.float32) - 127.5) / 128
session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
found, logits = session.run(["embeddings", "logits"], {"images": images})
error = numpy.max(numpy.abs(found - points).max(1) / numpy.abs(points).max(1))
assert error < 1e-5, error
assert numpy.mean(logits.argmax(1) == labels) == accuracy
print(f"{len(steps)} steps, {len(points)} embeddings")
