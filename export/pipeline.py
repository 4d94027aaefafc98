"""One export from start to end: read the checkpoint, write the network, check it, fill the repository."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import onnx

from export import ranges, settings, verify
from export.checkpoint import checkpoint, skipped
from export.checkpoint.checkpoint import Checkpoint
from export.errors import ExportError
from export.int8 import quantize
from export.int8.accuracy import Reference
from export.network import network, onnx_file
from export.network.runner import Network, Runner, runs
from export.network.sliced import slice_rows
from export.network.weights import Weights
from export.repository import identity
from export.repository.configs import step_settings
from export.repository.encoder_config import TOKEN_BUDGET
from export.repository.family import Family
from export.repository.staging import staged
from export.settings import Request
from export.tensorrt.engine import BuildOptions, TensorRT
from export.tokenizer import step as tokenizer_step

NETWORK = "model.onnx"
PLAN = "model.plan"
TOKENIZER = "tokenizer.json"
STAGES = "stages.npz"

# A protobuf message ends at 2 GB; what is left of it here is for the graph itself.
EXTERNAL_DATA_BYTES = 2_000_000_000

_SHOWN_LABELS = 5

Step = Callable[[str], AbstractContextManager[None]]


def export(request: Request, step: Step) -> Path:
    """Export a checkpoint, or leave the repository as it was.

    Args:
        request: What is asked for.
        step: Called with what is being done; its context is entered while it is done.

    Returns:
        The directory that holds the network.

    Raises:
        ExportError: the checkpoint is refused, a check failed, or the repository cannot be written.
    """
    settings.check(request)
    if request.backend == "tensorrt" and request.precision == "int8":
        quantize.check_version()
    if request.verify:
        verify.require_reference()
    tensorrt = TensorRT(settings.device(request)) if request.backend == "tensorrt" else None
    with step(f"reading {request.checkpoint}"):
        source = checkpoint.load(
            request.checkpoint, google_options=request.google, encoder_only=request.encoder_only, head=request.head
        )
        family = settings.settled(request, source)
    for note in source.notes:
        print(f"note: {note}")
    if family.in_slices:
        print(f"{family.name}: {settings.instances_in_words(family)}")
    if family.labels:
        print(f"{family.name} gives scores (SCORES) of {_listed(family.labels)}, by {family.activation}")
    if source.beside:
        print(f"{family.name} gives dense vectors (EMBEDDING) of {family.dimension} numbers")
    if family.splade or family.lexical is not None:
        print(f"{family.name}_sparse gives sparse vectors (INDICES, WEIGHTS) over {family.vocab_size:,} words")
    if family.multi:
        size = family.multi.dimension
        print(f"{family.name}_multi gives a vector of {size} numbers for each token (TOKEN_EMBEDDING)")
    weights = identity.DigestedWeights(source.weights)
    with staged(request.repository, family, request.version) as staging:
        path = staging.directories[f"{family.name}_encoder"] / NETWORK
        with step("writing the network"):
            model = _network(source, weights, family, half=request.precision == "fp16")
            if family.in_slices and request.precision != "int8":  # whose products are looked for in the graph itself
                slice_rows(model, TOKEN_BUDGET)
            save(model, path)
            del model
            _write_settings(source, family, staging.directories)
        with step("running the tokenizer step"):
            directory = staging.directories[f"{family.name}_tokenizer"]
            tokenizer_step.check(directory, source.tokenizer_json, step_settings(family))
        staging.identity = identity.of(source, weights.digests, family, request.precision)
        others = skipped.describe(source.weights.skipped(), source.encoder)
        if others:
            print(f"skipped: {others} (not part of the encoder)")
        runner: Runner = Network(path)
        with step("running it in ONNX Runtime"):
            runs(runner, source.tokenizer_json, family.max_seq_len, family.outputs)
        if request.precision == "int8":
            if request.verify:
                _verify(runner, source, family, request, step)
            runner = _to_int8(runner, tensorrt, path, source, family, request, step)
        else:
            if tensorrt:
                runner = _to_engine(tensorrt, path, source, family, request, step)
            if request.verify:
                _verify(runner, source, family, request, step)
        if family.is_dense:
            pooling = staging.directories[f"{family.name}_pooling"]
            staging.ranges = staging.known_ranges or _ranges(runner, source, family, pooling, step)
    for note in staging.notes:
        print(f"note: {note}")
    return request.repository / f"{family.name}_encoder" / str(request.version)


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(map(repr, labels[:_SHOWN_LABELS]))
    rest = len(labels) - _SHOWN_LABELS
    return f"{len(labels)} label{'s' * (len(labels) > 1)} ({shown}{f' and {rest} more' if rest > 0 else ''})"


def save(model: onnx.ModelProto, path: Path, external_from: int = EXTERNAL_DATA_BYTES) -> None:
    """Has onnx.checker check a network and writes it; from `external_from` bytes on, weights go beside it."""
    onnx_file.check(model)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    onnx_file.write(model, path, external_data=size >= external_from)


def _network(source: Checkpoint, weights: Weights, family: Family, half: bool) -> onnx.ModelProto:
    """Build the network in the layout that its backend takes."""
    return network.build(
        source.encoder,
        weights,
        family.layers,
        family.pooler,
        is_padded=family.backend == "tensorrt",
        half=half,
        reductions=family.reductions,
        prompts_apart=not family.include_prompt,
        head=source.head,
        beside=source.beside,
    )


def _to_engine(
    tensorrt: TensorRT, path: Path, source: Checkpoint, family: Family, request: Request, step: Step
) -> Runner:
    """Put the TensorRT engine of a padded network in its place."""
    options = BuildOptions(
        profiles=family.profiles,
        max_batch_size=family.max_batch_size,
        workspace=request.workspace,
        timing_cache=request.timing_cache,
    )
    plan = path.with_name(PLAN)
    with step(f"building the engine with TensorRT {tensorrt.version}"):
        tensorrt.build(path, plan, options)
    for file in path.parent.glob(f"{NETWORK}*"):
        file.unlink()
    for note in tensorrt.notes:
        print(f"note: {note}")
    engine = tensorrt.load(plan, options)
    print(f"  {engine}")
    with step("running it in TensorRT"):
        runs(engine, source.tokenizer_json, family.max_seq_len, family.outputs)
    return engine


def _verify(runner: Runner, source: Checkpoint, family: Family, request: Request, step: Step) -> None:
    """Compare a network with transformers."""
    with step("comparing with transformers"):
        half = request.precision == "fp16"
        differences = verify.compare(runner, source, family.layers, family.max_seq_len, half, family.reductions)
    for difference in differences:
        print(
            f"  {difference.output:16} max |difference| {difference.largest:.2e} "
            f"over {difference.compared:,} numbers (allowed: {difference.allowed:.0e})"
        )


def _to_int8(
    exact: Runner,
    tensorrt: TensorRT | None,
    path: Path,
    source: Checkpoint,
    family: Family,
    request: Request,
    step: Step,
) -> Runner:
    """Put the INT8 form of the FP32 network `exact`, or the engine of it, in its place, if it is near enough."""
    with step("encoding texts in FP32"):
        reference = Reference(exact, source.tokenizer_json, family.max_seq_len)
    with step("quantising to INT8"):
        original = path.with_name("fp32") / NETWORK
        original.parent.mkdir()
        for file in path.parent.glob(f"{NETWORK}*"):
            file.rename(original.parent / file.name)
        if tensorrt:
            model = _network(source, source.weights, family, half=True)
            quantize.static(model, path, source.encoder, reference.others)
        else:
            external_data = len(list(original.parent.iterdir())) > 1
            quantize.dynamic(original, path, source.encoder, reference.others, external_data)
            if family.in_slices:
                model = onnx.load(path)
                slice_rows(model, TOKEN_BUDGET)
                onnx_file.write(model, path, external_data)
        shutil.rmtree(original.parent)
        onnx.checker.check_model(str(path))
        quantized: Runner = Network(path)
        runs(quantized, source.tokenizer_json, family.max_seq_len, family.outputs)
    _compare(quantized, reference, request, step)
    if tensorrt:
        quantized = _to_engine(tensorrt, path, source, family, request, step)
        _compare(quantized, reference, request, step)
    return quantized


def _ranges(runner: Runner, source: Checkpoint, family: Family, pooling: Path, step: Step) -> str:
    """The ranges of a family's vectors, as its config has them."""
    with step("measuring the ranges of its vectors"):
        found = ranges.measured(runner, source.tokenizer_json, family, pooling)
    return "" if found is None else ranges.written(found)


def _compare(runner: Runner, reference: Reference, request: Request, step: Step) -> None:
    """Print how near an INT8 network is to FP32, and refuse one that is not near enough."""
    with step("comparing it with FP32"):
        accuracy = reference.accuracy(runner)
    print(f"  {accuracy}")
    if not accuracy.lowest_cosine >= request.least_cosine:  # so that NaN fails
        raise ExportError(
            f"the INT8 network's lowest cosine to FP32 is {accuracy.lowest_cosine:.4f}, below {request.least_cosine}: "
            f"export in {'FP16' if request.backend == 'tensorrt' else 'FP32'}, or lower --least-cosine if that is near "
            "enough for you"
        )


def _write_settings(source: Checkpoint, family: Family, directories: dict[str, Path]) -> None:
    """Write what the steps around the network read beside their config."""
    tokenizer = directories[f"{family.name}_tokenizer"] / TOKENIZER
    tokenizer.write_text(source.tokenizer_json, encoding="utf-8")
    stages = source.defaults.stages[: len(family.stages)]
    arrays = {f"{name}_{i}": array for i, stage in enumerate(stages) for name, array in stage.arrays.items()}
    if arrays:
        np.savez(directories[f"{family.name}_pooling"] / STAGES, **arrays)
