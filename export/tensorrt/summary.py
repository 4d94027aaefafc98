"""What a TensorRT engine is made of, read from its inspector's report."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

# TensorRT 10 says "Row major linear FP16 format (kLINEAR)" under Format/Datatype, TensorRT 11 "Half" under DataType.
_PRECISION = re.compile(r"FP32|FP16|BF16|FP8|INT8|INT32|INT64|BOOL|Float|Half|BFloat16|Int8|Int32|Int64|Bool", re.I)
_SPELLED = {"float": "FP32", "half": "FP16", "bfloat16": "BF16"}


def summarise(report: str) -> str:
    """One line of an engine's layers by the precision of what they write, such as `61 layers: 40 FP16, 21 FP32`.

    Args:
        report: JSON of IEngineInspector.get_engine_information, of an engine built with detailed verbosity.
    """
    layers = json.loads(report).get("Layers", [])
    counts = Counter(_precision(layer) for layer in layers)
    each = ", ".join(f"{count} {precision}" for precision, count in counts.most_common())
    return f"{len(layers)} layers: {each}" if each else "no layers are listed"


def _precision(layer: Any) -> str:
    outputs = layer.get("Outputs", []) if isinstance(layer, dict) else []
    if not outputs:
        return "unnamed"
    kinds = set()
    for output in outputs:
        match = _PRECISION.search(str(output.get("DataType", output.get("Format/Datatype", ""))))
        kinds.add(_SPELLED.get(match[0].lower(), match[0].upper()) if match else "unnamed")
    return "+".join(sorted(kinds))
