"""What an export takes of memory, as the kernel counts it: the most that was resident at any time, mapped files too."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkpoints.folders import VOCABULARY, write_bert

# The most is asked of /proc, which counts from the start of the program; getrusage counts what it was forked from too.
EXPORT = """
import sys
from contextlib import nullcontext
from pathlib import Path
from export.pipeline import export
from export.settings import Request

def most():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

def run(checkpoint):
    options = {"backend": "onnxruntime", "gpus": (), "precision": sys.argv[4]}
    export(Request(checkpoint, "bert", Path(sys.argv[3]), **options), step=lambda _: nullcontext())

run(sys.argv[1])  # a small one first, since an export imports some libraries only when it needs them
before = most()
run(sys.argv[2])
print(most() - before)
"""


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_export_takes_at_most_two_and_a_half_times_the_weights(tmp_path: Path, precision: str) -> None:
    vocabulary = [*VOCABULARY, *(f"word{index}" for index in range(12_000))]
    write_bert(tmp_path / "small")
    write_bert(tmp_path / "large", hidden=512, layers=6, heads=8, intermediate=2048, vocabulary=vocabulary)
    size = (tmp_path / "large/model.safetensors").stat().st_size
    assert size > 90e6
    folders = [tmp_path / name for name in ("small", "large", "repository")]
    command = [sys.executable, "-c", EXPORT, *folders, precision]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(found.stdout.splitlines()[-1]) <= 2.5 * size
