"""A checkpoint as a fused ONNX model, for the peers that run ONNX Runtime.

Runs in the environment of sentence-transformers' ONNX backend:

    python -m perf.compare.systems.sentence_transformers.onnx_model CHECKPOINT FOLDER
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from onnxruntime.transformers.optimizer import optimize_model
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoConfig


def main(checkpoint: str, folder: Path) -> None:
    """Export with optimum, by way of sentence-transformers, and fuse attention, GELU and norms for the CPU.

    Attention is BERT's only: no other is known to the fusion. What was fused is written to `fused.json`.
    """
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    config = AutoConfig.from_pretrained(checkpoint)
    scores = any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
    model = (CrossEncoder if scores else SentenceTransformer)(checkpoint, device="cpu", backend="onnx")
    model.save_pretrained(str(beside))
    path = beside / "onnx" / "model.onnx"
    fused = optimize_model(
        str(path), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size, opt_level=1
    )
    statistics = fused.get_fused_operator_statistics()
    if config.model_type == "bert" and statistics["Attention"] != config.num_hidden_layers:
        sys.exit(f"{statistics['Attention']} attentions were fused, of {config.num_hidden_layers}")
    fused.save_model_to_file(str(path))
    found = {name: count for name, count in statistics.items() if count}
    (beside / "fused.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    beside.rename(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
