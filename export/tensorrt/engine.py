"""TensorRT engines: built from a padded network, and run to be checked, by NVIDIA's own polygraphy.

The only module that imports `tensorrt` (10.13 or later, 11.x included) and `polygraphy`, and only when an engine is
asked for. Networks are strongly typed, in 11.x the only kind there is: the precision of a layer is the ONNX graph's,
and TF32 is off, as it is unless polygraphy is told otherwise. So one code path does for both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from ctypes import c_int
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding

from export.errors import ExportError
from export.network.batches import Arrays, padded
from export.network.layout import INPUTS
from export.tensorrt.build_progress import BuildProgress
from export.tensorrt.profiles import Profile
from export.tensorrt.summary import summarise

LEAST_VERSION = (10, 13)

_WHAT_TO_DO = (
    "run the export in NVIDIA's TensorRT container of the same release as the server's, started with --gpus all, "
    "on the kind of GPU that will serve; see docs/gpu.md"
)


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        profiles: Ranges of S, one optimisation profile each.
        max_batch_size: Texts in an execution, the largest N.
        workspace: GPU memory that a layer may use for scratch, in bytes; None for what there is.
        timing_cache: File that keeps measured kernels, so that the next build is faster; None for the default, see
            `default_timing_cache`.
    """

    profiles: tuple[Profile, ...]
    max_batch_size: int
    workspace: int | None = None
    timing_cache: Path | None = None


def default_timing_cache(version: str) -> Path:
    """One file for each TensorRT version, in the user's cache directory (XDG_CACHE_HOME, else ~/.cache)."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return home / "bert-on-triton" / f"tensorrt-{version}.timing"


class TensorRT:
    """The TensorRT package on a machine with a GPU.

    Attributes:
        version: Of the package.
        errors: What it has logged as errors.
        notes: What the user should know of a build, a line each.
    """

    def __init__(self, device: int = 0) -> None:
        """Import what is needed and take GPU number `device`, whose kind the engines are for.

        Raises:
            ExportError: a package is missing or too old, or no GPU can be used.
        """
        try:
            import tensorrt
            from polygraphy import cuda
            from polygraphy.backend import trt as backend
            from polygraphy.exception import PolygraphyException
            from polygraphy.logger import G_LOGGER
        except ImportError as error:
            raise ExportError(f"--backend tensorrt needs tensorrt and polygraphy ({error}): {_WHAT_TO_DO}") from None
        self.trt: Any = tensorrt
        self.backend: Any = backend
        self.error: type[Exception] = PolygraphyException
        self.version = str(tensorrt.__version__)
        if tuple(int(part) for part in self.version.split(".")[:2]) < LEAST_VERSION:
            wanted = ".".join(map(str, LEAST_VERSION))
            raise ExportError(f"TensorRT {self.version} is too old; {wanted} or later is needed: {_WHAT_TO_DO}")
        self.errors: list[str] = []
        self.notes: list[str] = []
        # What polygraphy would print is said by our own errors; what TensorRT logs goes where it looks for a logger.
        G_LOGGER.module_severity = G_LOGGER.CRITICAL + 1
        self._logger = backend.util.TRT_LOGGER = self._make_logger()
        try:
            runtime = cuda.wrapper()
            runtime.check(runtime.handle.cudaSetDevice(c_int(device)))
            backend.create_network(strongly_typed=True)
        except (OSError, TypeError, RuntimeError, PolygraphyException) as error:
            # OSError: no libcudart. TypeError: pybind11's, where the constructor has nothing to return.
            raise self.failed(f"TensorRT {self.version} cannot use a GPU here ({error})", _WHAT_TO_DO) from None

    def failed(self, what: str, to_do: str) -> ExportError:
        """An error of what failed, with the first that TensorRT logged about it."""
        reason = f": {' '.join(self.errors[0].split())}" if self.errors else ""
        return ExportError(f"{what}{reason}; {to_do}")

    def build(self, network: Path, plan: Path, options: BuildOptions) -> None:
        """Build an engine of the padded network in `network` and write it to `plan`.

        Raises:
            ExportError: TensorRT cannot parse the network or build it.
            KeyboardInterrupt: Ctrl-C was pressed during the build.
        """
        trt, backend = self.trt, self.backend
        builder, definition = backend.create_network(strongly_typed=True)
        parser = trt.OnnxParser(definition, self._logger)
        if not parser.parse_from_file(str(network)):
            self.errors[:0] = [parser.get_error(index).desc() for index in range(parser.num_errors)]
            raise self.failed(f"TensorRT {self.version} cannot parse the network", "use --backend onnxruntime")
        progress = BuildProgress()
        workspace = options.workspace
        configure = backend.CreateConfig(
            profiles=[self._profile(profile, options.max_batch_size) for profile in options.profiles],
            profiling_verbosity=trt.ProfilingVerbosity.DETAILED,  # for the summary
            memory_pool_limits=None if workspace is None else {trt.MemoryPoolType.WORKSPACE: workspace},
            progress_monitor=self._make_monitor(progress),
        )
        cache = options.timing_cache or default_timing_cache(self.version)
        serialized: Any = None
        try:
            config = configure(builder, definition)
            self._read_timing_cache(config, cache)
            serialized = backend.engine_bytes_from_network((builder, definition), config=config)
        except self.error as error:
            if not progress.interrupted:
                self.errors.append(_first_line(error))  # where TensorRT itself has said nothing
                raise self.failed(
                    f"TensorRT {self.version} could not build the engine",
                    "give it more memory (--workspace), or less to do (--profiles, --max-batch-size)",
                ) from None
        if progress.interrupted:
            raise KeyboardInterrupt
        plan.write_bytes(serialized)
        try:
            _write(cache, config.get_timing_cache().serialize())
        except OSError as error:  # the engine is there all the same
            self.notes.append(f"the timing cache {cache} was not kept ({error.strerror}); see --timing-cache")

    def load(self, plan: Path, options: BuildOptions) -> Engine:
        """Load an engine to run it.

        Raises:
            ExportError: TensorRT refuses it.
        """
        try:
            engine = self.backend.engine_from_bytes(plan.read_bytes())
        except self.error:
            raise self.failed(f"TensorRT {self.version} cannot load the engine it built", _WHAT_TO_DO) from None
        return Engine(self, engine, options)

    def _profile(self, profile: Profile, max_batch_size: int) -> Any:
        """Any N and S of the profile; kernels are chosen for half as many texts as may come, as long as may be."""
        shapes = self.backend.Profile()
        usual = max(1, max_batch_size // 2)
        for name in INPUTS:
            shapes.add(name, (1, profile.shortest), (usual, profile.longest), (max_batch_size, profile.longest))
        return shapes

    def _read_timing_cache(self, config: Any, path: Path) -> None:
        """Measurements of another GPU or version are refused by TensorRT; then those of this build replace them."""
        try:
            data = path.read_bytes()
        except OSError:
            data = b""
        cache = config.create_timing_cache(data)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)

    def _make_logger(self) -> Any:
        trt, errors = self.trt, self.errors

        class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    errors.append(message)

        return Logger()

    def _make_monitor(self, progress: BuildProgress) -> Any:
        trt = self.trt

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                progress.start(phase_name, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return progress.step(phase_name, step)

            def phase_finish(self, phase_name: str) -> None:
                progress.finish(phase_name)

        return Monitor()


class Engine:
    """An engine on a GPU; a `runner.Runner`. Each text runs under the profile of its own length."""

    def __init__(self, library: TensorRT, engine: Any, options: BuildOptions) -> None:
        self._trt = library.trt
        self._error = library.error
        self._engine = engine
        self._options = options
        self._runner = library.backend.TrtRunner(engine)
        try:
            self._runner.activate()
        except self._error:
            raise library.failed("the engine's memory does not fit on the GPU", "give fewer --max-batch-size") from None
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.outputs = [name for name in names if engine.get_tensor_mode(name) == self._trt.TensorIOMode.OUTPUT]

    def __str__(self) -> str:
        inspector = self._engine.create_engine_inspector()
        layers = summarise(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))
        return f"{layers}; {self._engine.device_memory_size_v2 / 1e6:.0f} MB of GPU memory in each execution context"

    def run(self, encodings: Iterable[Encoding]) -> Arrays:
        """Run texts, at most `max_batch_size` at once."""
        encodings = list(encodings)
        rows: dict[str, dict[int, Any]] = {name: {} for name in self.outputs}
        for index, profile in enumerate(self._options.profiles):
            places = [i for i, e in enumerate(encodings) if profile.shortest <= len(e) <= profile.longest]
            for start in range(0, len(places), self._options.max_batch_size):
                some = places[start : start + self._options.max_batch_size]
                found = self._compute(index, padded([encodings[i] for i in some]))
                for name, array in found.items():
                    rows[name].update(zip(some, array, strict=True))
        texts = range(len(encodings))
        outputs = {name: np.stack([rows[name][i] for i in texts]) for name in rows if name != "token_embeddings"}
        if "token_embeddings" in rows:
            tokens = [rows["token_embeddings"][i][: len(encodings[i])] for i in texts]
            outputs["token_embeddings"] = np.concatenate(tokens)
        return outputs

    def _compute(self, profile: int, inputs: Arrays) -> Arrays:
        """Run one batch under one profile."""
        try:
            self._runner.set_profile(profile)
            found = self._runner.infer(inputs)
        except self._error as error:
            raise ExportError(f"TensorRT could not run the engine it built ({_first_line(error)})") from None
        return {name: np.array(found[name]) for name in self.outputs}  # copies: the next run writes over them


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _write(path: Path, data: Any) -> None:
    """Write a file whole or not at all, in a directory that may be missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}")
    half.write_bytes(data)
    half.replace(path)
