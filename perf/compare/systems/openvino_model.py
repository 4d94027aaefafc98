"""A padded network in INT8, by NNCF. Runs in OpenVINO's environment.

python -m perf.compare.systems.openvino_model NETWORK TOKENIZER TEXTS TARGET
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nncf
import openvino
from tokenizers import Tokenizer

from perf.compare.systems.openvino import feed

_MAX_TOKENS = 128


def main(network: str, tokenizer_file: str, texts: str, target: str) -> None:
    """Calibrate on texts, a batch of one each."""
    tokenizer = Tokenizer.from_file(tokenizer_file)
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MAX_TOKENS)
    rows = [row.ids for row in tokenizer.encode_batch(json.loads(Path(texts).read_text("utf-8")))]
    quantized = nncf.quantize(
        openvino.Core().read_model(network),
        nncf.Dataset(rows, lambda row: feed([row])),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(rows),
    )
    openvino.save_model(quantized, target, compress_to_fp16=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
