"""One export from start to end: read the checkpoint, write the network, check it, fill the repository."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from export import gpus
from export.checkpoint import checkpoint, google, skipped
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.sentence_transformers import Dense
from export.checkpoint.weights import Weights
from export.errors import ExportError
from export.int8 import quantize
from export.int8.accuracy import Reference
from export.network import check, network, onnx_file
from export.repository import identity
from export.repository.family import LEAST_COSINE, Family, step_settings
from export.repository.staging import staged
from export.tensorrt.engine import BuildOptions, TensorRT
from export.tensorrt.profiles import Profile
from export.tokenizer import step as tokenizer_step

NETWORK = "model.onnx"
PLAN = "model.plan"
TOKENIZER = "tokenizer.json"
DENSE = "dense.npz"

# A protobuf message ends at 2 GB; what is left of it here is for the graph itself.
EXTERNAL_DATA_BYTES = 2_000_000_000

Step = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Request:
    """What an export is asked for; None stands for the checkpoint's own setting. See `Family` for the rest.

    Attributes:
        checkpoint: A folder, or a hub id.
        repository: The model repository to write to.
        version: Version directory in each model.
        instances: Of the encoder, on each GPU; None for one on the CPU and two on a GPU.
        verify: Whether to compare with transformers' BertModel (the FP32 network where the precision is INT8).
        precision: Of the network, one of `family.PRECISIONS`.
        least_cosine: What an INT8 network's lowest cosine to FP32 must reach.
        gpus: That the encoder runs on, by number; none named for all that the server sees; None for the CPU, and for
            all with TensorRT.
        profiles: Ranges of S, for TensorRT; cut at max_seq_len.
        pad_to_multiple_of: To what the tokenizer rounds S up, for TensorRT.
        workspace: GPU memory that a layer of an engine may use for scratch, in bytes.
        timing_cache: File of TensorRT's measurements, see `engine.BuildOptions`.
        google: What is said about a checkpoint in Google's original format.
        encoder_only: Whether a classifier's or cross-encoder's encoder is wanted without its head.
    """

    checkpoint: str
    name: str
    repository: Path
    version: int = 1
    backend: str = "python"
    layers: tuple[int, ...] = (-1,)
    max_seq_len: int | None = None
    pooling: str | None = None
    normalize: bool | None = None
    max_batch_size: int = 64
    instances: int | None = None
    threads: int = 0
    verify: bool = False
    precision: str = "fp32"
    least_cosine: float = LEAST_COSINE
    gpus: tuple[int, ...] | None = None
    profiles: tuple[Profile, ...] | None = None
    pad_to_multiple_of: int | None = None
    workspace: int | None = None
    timing_cache: Path | None = None
    google: google.Options = field(default_factory=google.Options)
    encoder_only: bool = False


def export(request: Request, step: Step) -> Path:
    """Exports a checkpoint, or leaves the repository as it was.

    Args:
        request: What is asked for.
        step: Called with what is being done; its context is entered while it is done.

    Returns:
        The directory that holds the network.

    Raises:
        ExportError: the checkpoint is refused, a check failed, or the repository cannot be written.
    """
    gpus.check(request)
    if request.backend == "tensorrt" and request.precision == "int8":
        quantize.check_version()
    if request.verify:
        check.require_reference()
    tensorrt = TensorRT(gpus.device(request)) if request.backend == "tensorrt" else None
    with step(f"reading {request.checkpoint}"):
        source = checkpoint.load(request.checkpoint, google_options=request.google, encoder_only=request.encoder_only)
        family = _family(request, source)
    for note in source.notes:
        print(f"note: {note}")
    weights = identity.DigestedWeights(source.weights)
    with staged(request.repository, family, request.version) as staging:
        path = staging.directories[f"{family.name}_encoder"] / NETWORK
        with step("writing the network"):
            save(_network(source, weights, family, half=request.precision == "fp16"), path)
            _write_settings(source, family, staging.directories)
        with step("running the tokenizer step"):
            directory = staging.directories[f"{family.name}_tokenizer"]
            tokenizer_step.check(directory, source.tokenizer_json, step_settings(family))
        staging.identity = identity.of(source, weights.digests, family, request.precision)
        others = skipped.describe(source.weights.skipped(), source.config.num_hidden_layers)
        if others:
            print(f"skipped: {others} (not part of the encoder)")
        runner: check.Runner = check.Network(path)
        with step("running it in ONNX Runtime"):
            check.runs(runner, source.tokenizer_json, family.token_size, family.max_seq_len)
        if request.precision == "int8":
            if request.verify:
                _verify(runner, source, family, request, step)
            _to_int8(runner, tensorrt, path, source, family, request, step)
        else:
            if tensorrt:
                runner = _to_engine(tensorrt, path, source, family, request, step)
            if request.verify:
                _verify(runner, source, family, request, step)
    for note in staging.notes:
        print(f"note: {note}")
    return request.repository / f"{family.name}_encoder" / str(request.version)


def save(model: onnx.ModelProto, path: Path, external_from: int = EXTERNAL_DATA_BYTES) -> None:
    """Has onnx.checker check a network and writes it; from `external_from` bytes on, weights go beside it."""
    onnx_file.check(model)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    onnx_file.write(model, path, external_data=size >= external_from)


def _family(request: Request, source: Checkpoint) -> Family:
    """Settles every setting: what is asked for, else what the checkpoint says."""
    config, defaults = source.config, source.defaults
    highest = max(network.layer_indices(request.layers, config.num_hidden_layers))
    pooling = request.pooling or defaults.pooling
    if not pooling:
        raise ExportError(f"{defaults.unsupported}; choose one with --pooling")
    has_pooler = source.weights.has("pooler.dense.weight")
    if pooling == "pooler" and not has_pooler:
        raise ExportError(f"{request.checkpoint} has no pooler (pooler.dense.weight); choose another --pooling")
    max_seq_len = request.max_seq_len or defaults.max_seq_len
    if not 3 <= max_seq_len <= config.max_position_embeddings:
        raise ExportError(
            f"--max-seq-len is {max_seq_len}; this checkpoint takes 3 to {config.max_position_embeddings}, "
            "[CLS] and [SEP] included"
        )
    dense = defaults.dense if pooling == defaults.pooling else ()  # they were trained behind that pooling
    _check_dense(dense, pooling, config.hidden_size, len(request.layers))
    return Family(
        name=request.name,
        hidden_size=config.hidden_size,
        layers=request.layers,
        # It reads the last layer, so it costs the layers that would be left out otherwise.
        pooler=has_pooler and (pooling == "pooler" or highest == config.num_hidden_layers - 1),
        max_seq_len=max_seq_len,
        pooling=pooling,
        normalize=defaults.normalize if request.normalize is None else request.normalize,
        prompts=defaults.prompts,
        default_prompt_name=defaults.default_prompt_name,
        dense_activations=tuple(layer.activation for layer in dense),
        dense_size=len(dense[-1].weight) if dense else None,
        backend=request.backend,
        max_batch_size=request.max_batch_size,
        instances=request.instances or gpus.instances(request),
        threads=request.threads,
        gpus=gpus.of_encoder(request),
        profiles=gpus.profiles(request, max_seq_len),
        pad_to_multiple_of=gpus.pad_to_multiple_of(request),
    )


def _check_dense(dense: Sequence[Dense], pooling: str, hidden_size: int, layers: int) -> None:
    """Refuses Dense layers that the pooling step could not compute behind `pooling`: it would end with the server."""
    size = hidden_size if pooling == "pooler" else hidden_size * layers * (1 + (pooling == "mean_max"))
    for number, layer in enumerate(dense, start=1):
        outputs, inputs = layer.weight.shape
        if inputs != size:
            raise ExportError(
                f"the checkpoint's Dense layer {number} takes vectors of length {inputs}, but "
                f"pooling {pooling} over {layers} layer(s) gives it {size}; leave --layers at one, or choose another "
                "--pooling, behind which there is no Dense layer"
            )
        size = outputs


def _network(source: Checkpoint, weights: Weights, family: Family, half: bool) -> onnx.ModelProto:
    """Builds the network in the layout that its backend takes."""
    is_padded = family.backend == "tensorrt"
    return network.build(source.config, weights, family.layers, family.pooler, is_padded, half)


def _to_engine(
    tensorrt: TensorRT, path: Path, source: Checkpoint, family: Family, request: Request, step: Step
) -> check.Runner:
    """Puts the TensorRT engine of a padded network in its place."""
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
        check.runs(engine, source.tokenizer_json, family.token_size, family.max_seq_len)
    return engine


def _verify(runner: check.Runner, source: Checkpoint, family: Family, request: Request, step: Step) -> None:
    """Compares a network with transformers' BertModel."""
    with step("comparing with transformers' BertModel"):
        half = request.precision == "fp16"
        differences = check.verify(runner, source, family.layers, family.max_seq_len, half)
    for difference in differences:
        print(
            f"  {difference.output:16} max |difference| {difference.largest:.2e} "
            f"over {difference.compared:,} numbers (allowed: {difference.allowed:.0e})"
        )


def _to_int8(
    exact: check.Runner,
    tensorrt: TensorRT | None,
    path: Path,
    source: Checkpoint,
    family: Family,
    request: Request,
    step: Step,
) -> None:
    """Puts the INT8 form of the FP32 network `exact`, or the engine of it, in its place, if it is near enough."""
    with step("encoding texts in FP32"):
        reference = Reference(exact, source.tokenizer_json, family.max_seq_len)
    with step("quantising to INT8"):
        original = path.with_name("fp32") / NETWORK
        original.parent.mkdir()
        for file in path.parent.glob(f"{NETWORK}*"):
            file.rename(original.parent / file.name)
        if tensorrt:
            quantize.static(_network(source, source.weights, family, half=True), path, reference.others)
        else:
            quantize.dynamic(original, path, external_data=len(list(original.parent.iterdir())) > 1)
        shutil.rmtree(original.parent)
        onnx.checker.check_model(str(path))
        quantized = check.Network(path)
        check.runs(quantized, source.tokenizer_json, family.token_size, family.max_seq_len)
    _compare(quantized, reference, request, step)
    if tensorrt:
        engine = _to_engine(tensorrt, path, source, family, request, step)
        _compare(engine, reference, request, step)


def _compare(runner: check.Runner, reference: Reference, request: Request, step: Step) -> None:
    """Prints how near an INT8 network is to FP32, and refuses one that is not near enough."""
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
    """Writes what the steps around the network read beside their config."""
    tokenizer = directories[f"{family.name}_tokenizer"] / TOKENIZER
    tokenizer.write_text(source.tokenizer_json, encoding="utf-8")
    arrays = {}
    for index, _ in enumerate(family.dense_activations):
        layer = source.defaults.dense[index]
        arrays[f"weight_{index}"] = layer.weight
        arrays[f"bias_{index}"] = np.zeros(len(layer.weight), np.float32) if layer.bias is None else layer.bias
    if arrays:
        np.savez(directories[f"{family.name}_pooling"] / DENSE, **arrays)
