"""Whether trainings reached the same accuracy: accuracy.py RUN RUN"""

import json
import sys
from pathlib import Path

CLOSE = 0.02  # how far the accuracies of fp32 and bf16 may be apart
LEARNED = 0.9  # what each of them is to reach


def last(folder):
    """The last test accuracy of a run."""
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line).get("test_accuracy") for line in lines]
    return [value for value in found if value is not None][-1]


if len(sys.argv) < 2:
    sys.exit(__doc__)
found = [last(folder) for folder in sys.argv[1:]]
print("test accuracy: " + ", ".join(f"{value:.4f}" for value in found))
sys.exit(0 if max(found) - min(found) <= CLOSE and min(found) > LEARNED else 1)
