"""What an export is asked for, and what follows from it: what goes together, and what holds where nothing is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from export import poolings
from export.checkpoint import google, m3, sparse
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.late_interaction import LateInteraction
from export.checkpoint.sentence_transformers import Stage
from export.errors import ExportError
from export.network import network
from export.network.architectures.encoder import Classifier, Head, Splade, TokenVectors
from export.network.layout import MORE_REDUCTIONS, REDUCTIONS
from export.repository.family import LEAST_COSINE, Family, pooled_size
from export.repository.template import TEMPLATE
from export.step_modules import modules_of
from export.tensorrt import profiles as ranges
from export.tensorrt.profiles import Profile
from export.tokenizer import conversion

_GIVES: dict[type[Head], str] = {
    Classifier: "scores",
    Splade: "sparse vectors",
    TokenVectors: "a vector for each token",
}

HEADS = (sparse.NAME,)
"""What may be asked for instead of what a checkpoint says."""

# Requests share a batch on TensorRT only if their S is equal, and only such as stand side by side in the queue. Wider
# steps make longer batches and more padding; up to the first profile's end all short texts are one shape.
PAD_TO_MULTIPLE_OF = 32

MOST_INSTANCES = 8
"""Of a network in Triton's own ONNX Runtime on CPUs where nothing is said: each has a copy of the weights."""


@dataclass(frozen=True)
class Request:
    """What an export is asked for; None stands for the checkpoint's own setting. See `Family` for the rest.

    Attributes:
        checkpoint: A folder, or a hub id.
        repository: The model repository to write to.
        version: Version directory in each model.
        instances: Of the encoder, on each GPU; None for one in the Python backend, two on a GPU, and as many as there
            are cores here, up to MOST_INSTANCES, in Triton's own ONNX Runtime on CPUs.
        threads: Of an encoder instance; 0 for one a core, or the cores here by instances likewise.
        verify: Whether to compare with transformers' model (the FP32 network where the precision is INT8).
        precision: Of the network, one of `family.PRECISIONS`.
        least_cosine: What an INT8 network's lowest cosine to FP32 must reach.
        gpus: That the encoder runs on, by number; none named for all that the server sees; None for the CPU, and for
            all with TensorRT.
        profiles: Ranges of S, for TensorRT; cut at max_seq_len.
        pad_to_multiple_of: To what the tokenizer rounds S up, for TensorRT.
        workspace: GPU memory that a layer of an engine may use for scratch, in bytes.
        timing_cache: File of TensorRT's measurements, see `engine.BuildOptions`.
        google: What is said about a checkpoint in Google's original format.
        encoder_only: Whether the encoder of a network with a head is wanted without it, or of BGE-M3 dense vectors
            alone.
        head: `splade` for sparse vectors of a masked language model that says nothing of them.
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
    cache_bytes: int = 0
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
    head: str | None = None


def check(request: Request) -> None:
    """Refuses options that do not go together.

    Raises:
        ExportError: says which, and what to do.
    """
    on_gpu = _gpus_of_encoder(request) is not None
    if request.head and request.encoder_only:
        raise ExportError(f"--encoder-only leaves the head out that --head {request.head} asks for: give one of them")
    if on_gpu and request.backend == "python":
        raise ExportError("--gpus needs --backend onnxruntime or tensorrt: the python backend computes on CPUs")
    if request.cache_bytes and request.backend != "python":
        raise ExportError(f"--cache is for --backend python: {request.backend} keeps nothing of what it computed")
    if request.precision == "fp16" and not on_gpu:
        raise ExportError("--precision fp16 is for GPUs: give --gpus all, or --precision int8 for CPUs")
    if request.precision == "int8" and on_gpu and request.backend != "tensorrt":
        raise ExportError(
            "--precision int8 is for CPUs and for TensorRT: give --precision fp16, or --backend tensorrt, for GPUs"
        )
    if request.backend != "tensorrt":
        for option, value in (
            ("--profiles", request.profiles),
            ("--pad-to-multiple-of", request.pad_to_multiple_of),
            ("--workspace", request.workspace),
            ("--timing-cache", request.timing_cache),
        ):
            if value is not None:
                raise ExportError(f"{option} is for --backend tensorrt; leave it out, or give that")


def device(request: Request) -> int:
    """The GPU to build an engine on."""
    return request.gpus[0] if request.gpus else 0


def settled(request: Request, source: Checkpoint) -> Family:
    """Every setting: what is asked for, else what the checkpoint says.

    Raises:
        ExportError: the checkpoint does not allow what is asked for.
    """
    if source.head:
        return _with_head(request, source, source.head)
    if source.beside:
        _check_beside(request)
    encoder, defaults = source.encoder, source.defaults
    highest = max(network.layer_indices(request.layers, encoder.num_hidden_layers))
    pooling = request.pooling or defaults.pooling
    if not pooling:
        raise ExportError(f"{defaults.unsupported}; choose one with --pooling")
    has_pooler = encoder.pooler is not None and source.weights.has(encoder.pooler.weight.name)
    if pooling == poolings.POOLER and not has_pooler:
        name = encoder.pooler.weight.name if encoder.pooler else f"nor has any {encoder.model_type}"
        raise ExportError(f"{request.checkpoint} has no pooler ({name}); choose another --pooling")
    pooling = poolings.name(poolings.parts(pooling))
    stages = defaults.stages if pooling == defaults.pooling else ()  # they were trained behind that pooling
    size = _size_behind(stages, pooling, encoder.hidden_size, len(request.layers))
    return replace(
        _of_any(request, source),
        layers=request.layers,
        # It reads the last layer, so it costs the layers that would be left out otherwise.
        pooler=has_pooler and (pooling == poolings.POOLER or highest == encoder.num_hidden_layers - 1),
        pooling=pooling,
        normalize=defaults.normalize if request.normalize is None else request.normalize,
        reductions=(*REDUCTIONS, *(part for part in poolings.parts(pooling) if part in MORE_REDUCTIONS)),
        stages=tuple(stage.kind for stage in stages),
        stages_size=size if stages else None,
        include_prompt=defaults.include_prompt,
        lexical=source.lexical,
        vocab_size=0 if source.lexical is None else encoder.vocab_size,
        multi=source.multi,
    )


def _check_beside(request: Request) -> None:
    """Refuse what has not been tried with vectors of other kinds beside dense ones."""
    for option, is_given in (
        ("--backend tensorrt", request.backend == "tensorrt"),
        ("--precision int8", request.precision == "int8"),
    ):
        if is_given:
            raise ExportError(
                f"{option} is for dense vectors alone, and {request.checkpoint} gives vectors of other kinds beside "
                f"them ({' and '.join(m3.FILES)}): give another, or --encoder-only for dense vectors alone"
            )


def _with_head(request: Request, source: Checkpoint, head: Head) -> Family:
    """The settings of a family that does not give dense vectors."""
    gives = _GIVES[type(head)]
    for option, given in (
        ("--layers", request.layers != (-1,)),
        ("--pooling", request.pooling is not None),
        ("--normalize", request.normalize is not None),
    ):
        if given:
            raise ExportError(
                f"{option} is for dense vectors, and {request.checkpoint} gives {gives}: leave it out, or pass "
                "--encoder-only for vectors of the encoder below"
            )
    if request.precision == "int8":
        raise ExportError(
            f"--precision int8 is measured on dense vectors, and {request.checkpoint} gives {gives}: give another "
            "precision"
        )
    family = _of_any(request, source)
    if isinstance(head, Classifier):
        return replace(family, labels=head.labels, activation=source.activation)
    if isinstance(head, TokenVectors):
        assert source.multi
        return _of_tokens(request, family, source.multi)
    if request.backend == "tensorrt":
        raise ExportError(
            "--backend tensorrt takes no network whose outputs are as long as its numbers say, as sparse vectors are: "
            "give --backend onnxruntime"
        )
    return replace(
        family,
        splade=f"{head.pooling} {'relu' if head.logs == 1 else 'log1p_relu'}",
        vocab_size=source.encoder.vocab_size,
        max_active_dims=source.max_active_dims,
    )


def _of_tokens(request: Request, family: Family, multi: LateInteraction) -> Family:
    """The settings of a late-interaction family."""
    if request.backend == "tensorrt":
        raise ExportError(
            f"--backend tensorrt has not been tried with a vector for each token, which {request.checkpoint} gives: "
            "give --backend onnxruntime"
        )
    if multi.expansion and multi.expansion.length > family.max_seq_len:
        raise ExportError(
            f"--max-seq-len is {family.max_seq_len}; queries of this checkpoint are filled up to "
            f"{multi.expansion.length} tokens"
        )
    lengths = {name: length for name, length in multi.lengths.items() if length < family.max_seq_len}
    return replace(family, multi=replace(multi, lengths=lengths))


def _of_any(request: Request, source: Checkpoint) -> Family:
    """The settings that families of all kinds have alike."""
    encoder, defaults = source.encoder, source.defaults
    max_seq_len = request.max_seq_len or source.longest
    least = conversion.least_tokens(source.tokenizer_json)
    if not least <= max_seq_len <= encoder.max_positions:
        raise ExportError(
            f"--max-seq-len is {max_seq_len}; this checkpoint takes {least} to {encoder.max_positions}, "
            "special tokens included"
        )
    instances, threads = instances_and_threads(request)
    return Family(
        name=request.name,
        hidden_size=encoder.hidden_size,
        max_seq_len=max_seq_len,
        prompts=defaults.prompts,
        default_prompt_name=defaults.default_prompt_name,
        backend=request.backend,
        max_batch_size=request.max_batch_size,
        instances=instances,
        threads=threads,
        cache_bytes=request.cache_bytes,
        gpus=_gpus_of_encoder(request),
        profiles=_profiles(request, max_seq_len),
        pad_to_multiple_of=_pad_to_multiple_of(request),
        truncation_side=source.truncation_side,
        split_special_tokens=source.split_special_tokens,
        similarity=defaults.similarity,
    )


def _size_behind(stages: Sequence[Stage], pooling: str, hidden_size: int, layers: int) -> int:
    """The length of vectors behind `pooling` and `stages`.

    Refuses those that the pooling step could not compute: it would end with the server.
    """
    size = pooled_size(pooling, hidden_size, layers)
    for number, (inputs, outputs) in enumerate(filter(None, (stage.sizes for stage in stages)), start=1):
        if inputs != size:
            raise ExportError(
                f"the checkpoint's Dense layer or LayerNorm {number} takes vectors of length {inputs}, but "
                f"pooling {pooling} over {layers} layer(s) gives it {size}; leave --layers at one, or choose another "
                "--pooling, behind which there is none"
            )
        size = outputs
    return size


def _gpus_of_encoder(request: Request) -> tuple[int, ...] | None:
    """The GPUs of the encoder, none named for all; None for the CPU."""
    return () if request.gpus is None and request.backend == "tensorrt" else request.gpus


def instances_and_threads(request: Request) -> tuple[int, int]:
    """Of the encoder; 0 threads for one a core.

    Two instances on a GPU: while one computes, the other's tensors are copied; they share the weights. On the CPU the
    Python backend's one runs a slice on each core by itself. Triton's own gives an instance a batch at a time, so there
    is one for each core, as this machine has them.
    """
    if _gpus_of_encoder(request) is not None:
        return request.instances or 2, request.threads
    if request.backend == "python":
        return request.instances or 1, request.threads
    with modules_of(TEMPLATE / "bert_encoder" / "1", "cores") as (cores,):
        available = cores.available()
    instances = request.instances or min(MOST_INSTANCES, max(1, available // (request.threads or 1)))
    return instances, request.threads or max(1, available // instances)


def instances_in_words(family: Family) -> str:
    """How many there are, for those who export on another machine than they serve on."""
    several, each = family.instances > 1, f"{family.threads} thread{'s' * (family.threads > 1)}"
    return (
        f"{family.instances} instance{'s' * several} of {each}{' each' * several}; --instances and --threads are for "
        "a server with other cores than this machine"
    )


def _profiles(request: Request, max_seq_len: int) -> tuple[Profile, ...]:
    """The profiles of an engine; none for other backends.

    Raises:
        ExportError: they end before max_seq_len.
    """
    return ranges.fitted(request.profiles or ranges.DEFAULT, max_seq_len) if request.backend == "tensorrt" else ()


def _pad_to_multiple_of(request: Request) -> int:
    """To what the tokenizer rounds S up: 1, but for TensorRT."""
    return request.pad_to_multiple_of or (PAD_TO_MULTIPLE_OF if request.backend == "tensorrt" else 1)
