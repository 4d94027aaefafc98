"""What stands in for the package `tensorrt`, and for CUDA below it, where polygraphy builds and runs an engine.

It writes down what it is asked. Its engine is the ONNX file, which ONNX Runtime runs, with memory of this machine as
that of the GPU. So it shows that the calls fit together and what is asked for, and nothing of what TensorRT makes of
it.
"""

from __future__ import annotations

import ctypes
import enum
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

_TYPES = {"tensor(int32)": np.int32, "tensor(float)": np.float32}


def module(**differences: Any) -> types.ModuleType:
    """The package; `differences` are attributes that it has instead.

    `calls` of it are what was asked for when an engine was built; `cache` what the timing cache holds after it,
    `refuses` "parse", "build", "load", "memory" or "cache", which then fails, `interrupts` whether Ctrl-C is pressed.
    """
    trt = types.ModuleType("tensorrt")
    kinds = {
        "__version__": "11.4.0",
        "calls": [],
        "cache": b"measured",
        "refuses": "",
        "logged": "what TensorRT says of it",
        "BuilderFlag": enum.IntEnum("BuilderFlag", ["TF32"], start=0),
        "NetworkDefinitionCreationFlag": enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1}),
        "ProfilingVerbosity": enum.IntEnum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "DETAILED"]),
        "MemoryPoolType": enum.IntEnum("MemoryPoolType", ["WORKSPACE"]),
        "DeviceType": enum.IntEnum("DeviceType", ["GPU", "DLA"]),
        "TensorIOMode": enum.IntEnum("TensorIOMode", ["INPUT", "OUTPUT"]),
        "TensorFormat": enum.IntEnum("TensorFormat", ["LINEAR", "HWC", "CHW16"]),
        "LayerInformationFormat": enum.IntEnum("LayerInformationFormat", ["JSON"]),
        **{kind: kind for kind in ("float32", "float16", "int32", "int8")},
        **dict.fromkeys(("is_installed", "is_importable"), lambda: True),  # polygraphy's own, of what it has imported
        "ILogger": type("ILogger", (), {"Severity": enum.Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING"])}),
        "IProgressMonitor": type("IProgressMonitor", (), {}),
        "IOutputAllocator": type("IOutputAllocator", (), {}),
        "IExecutionContext": type("IExecutionContext", (), {}),
        "ICudaEngine": type("ICudaEngine", (Engine,), {}),
        "OnnxParser": type("OnnxParser", (Parser,), {"trt": trt}),
        "Builder": type("Builder", (Builder,), {"trt": trt}),
        "Runtime": type("Runtime", (Runtime,), {"trt": trt}),
        "init_libnvinfer_plugins": lambda logger, namespace: True,
    }
    for name, value in (kinds | differences).items():
        setattr(trt, name, value)
    return trt


class Builder:
    trt: Any

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> Network:
        return Network(flags)

    def create_builder_config(self) -> Configuration:
        return Configuration(self.trt)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Configuration) -> bytes | None:
        trt = self.trt
        trt.calls.append(("build", network.flags, config.flags, config.profiling_verbosity.name, config.limits))
        trt.calls += [("profile", *profile.shapes.items()) for profile in config.profiles]
        config.progress_monitor.phase_start("Building", None, 2)
        goes_on = config.progress_monitor.step_complete("Building", 0)
        config.progress_monitor.phase_finish("Building")
        if trt.refuses == "build" or not goes_on:
            self._logger.log(trt.ILogger.Severity.ERROR, trt.logged)
            return None
        config.timing_cache.data += trt.cache
        return network.path.read_bytes()


class Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.path = Path()
        self.num_inputs = 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def get_input(self, index: int) -> Any:
        name, shape = self.inputs[index]
        return types.SimpleNamespace(name=name, shape=shape, dtype="int32", is_shape_tensor=False)


class Parser:
    trt: Any

    def __init__(self, network: Network, logger: Any) -> None:
        self._network = network
        self.num_errors = 0

    def parse_from_file(self, path: str) -> bool:
        if self.trt.refuses == "parse":
            self.num_errors = 1
            return False
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._network.path = Path(path)
        self._network.inputs = [(tensor.name, (-1, -1)) for tensor in session.get_inputs()]
        self._network.num_inputs = len(self._network.inputs)
        return True

    def get_error(self, index: int) -> Any:
        return types.SimpleNamespace(desc=lambda: self.trt.logged)


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
        self.shapes[name] = least, usual, most


class Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data


class Configuration:
    def __init__(self, trt: Any) -> None:
        self._trt = trt
        self.flags = {"TF32"}
        self.limits: dict[str, int] = {}
        self.profiles: list[Profile] = []
        self.timing_cache = Cache(b"")
        self.DLA_core, self.default_device_type = -1, trt.DeviceType.GPU

    num_optimization_profiles = property(lambda self: len(self.profiles))

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def get_flag(self, flag: Any) -> bool:
        return flag.name in self.flags

    def set_memory_pool_limit(self, kind: Any, size: int) -> None:
        self.limits[kind.name] = size

    def get_memory_pool_limit(self, kind: Any) -> int:
        return self.limits.get(kind.name, 0)

    def add_optimization_profile(self, profile: Profile) -> None:
        self.profiles.append(profile)

    def create_timing_cache(self, data: bytes) -> Cache:
        return Cache(bytes(data))

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.data and self._trt.refuses == "cache":
            return False
        self.timing_cache = cache
        return True

    def get_timing_cache(self) -> Cache:
        return self.timing_cache


class Runtime:
    trt: Any

    def __init__(self, logger: Any) -> None:
        pass

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        return None if self.trt.refuses == "load" else self.trt.ICudaEngine(self.trt, plan)


class Engine:
    device_memory_size_v2 = 5_000_000

    def __init__(self, trt: Any, plan: bytes) -> None:
        self._trt = trt
        self.session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        modes = trt.TensorIOMode
        self.tensors = {t.name: (modes.INPUT, t.type) for t in self.session.get_inputs()}
        self.tensors |= {t.name: (modes.OUTPUT, t.type) for t in self.session.get_outputs()}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return [*self.tensors][index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.tensors[name][0]

    def get_tensor_dtype(self, name: str) -> Any:
        return np.dtype(_TYPES[self.tensors[name][1]]).name

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1,) * len(next(t.shape for t in self.session.get_inputs() if t.name == name))

    def get_tensor_format(self, name: str, profile: int) -> Any:
        return self._trt.TensorFormat.LINEAR

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def create_execution_context(self) -> Context | None:
        return None if self._trt.refuses == "memory" else Context(self)

    def create_engine_inspector(self) -> Any:
        return types.SimpleNamespace(get_engine_information=lambda kind: '{"Layers": ["one"]}')


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.active_optimization_profile = 0
        self._shapes: dict[str, Any] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self.ran: list[int] = []

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.active_optimization_profile = index
        return True

    def get_tensor_shape(self, name: str) -> Any:
        return self._shapes.get(name)

    def set_input_shape(self, name: str, shape: Any) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        self._allocators[name] = allocator
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.engine._trt.calls.append(("run", self.active_optimization_profile, self._shapes["input_ids"]))
        feed = {name: self._read(name) for name, (mode, _) in self.engine.tensors.items() if mode.name == "INPUT"}
        for name, array in zip(self._allocators, self.engine.session.run([*self._allocators], feed), strict=True):
            array = np.ascontiguousarray(array)
            address = self._allocators[name].reallocate_output(name, 0, array.nbytes, 1)
            ctypes.memmove(address, array.ctypes.data, array.nbytes)
            self._allocators[name].notify_shape(name, array.shape)
        return True

    def _read(self, name: str) -> np.ndarray:
        kind = np.dtype(_TYPES[self.engine.tensors[name][1]])
        size = int(np.prod(self._shapes[name])) * kind.itemsize
        return np.frombuffer(ctypes.string_at(self._addresses[name], size), kind).reshape(self._shapes[name])


class CudaRuntime:
    """The calls of libcudart that polygraphy makes; `device` is the one that was chosen."""

    def __init__(self, status: int = 0) -> None:
        self.device: int | None = None
        self.status = status
        self._memory: dict[int, Any] = {}

    def cudaSetDevice(self, device: ctypes.c_int) -> int:  # noqa: N802
        self.device = device.value
        return self.status

    def cudaStreamCreate(self, stream: Any) -> int:  # noqa: N802
        return 0

    def cudaStreamSynchronize(self, stream: Any) -> int:  # noqa: N802
        return 0

    def cudaStreamDestroy(self, stream: Any) -> int:  # noqa: N802
        return 0

    def cudaMalloc(self, place: Any, size: ctypes.c_size_t) -> int:  # noqa: N802
        memory = ctypes.create_string_buffer(max(1, size.value))
        place._obj.value = ctypes.addressof(memory)
        self._memory[place._obj.value] = memory
        return 0

    def cudaFree(self, place: ctypes.c_void_p) -> int:  # noqa: N802
        if place.value:  # nothing may be given back too
            del self._memory[place.value]
        return 0

    def cudaMemcpy(self, to: Any, origin: Any, size: Any, kind: int) -> int:  # noqa: N802
        return self.cudaMemcpyAsync(to, origin, size, kind, None)

    def cudaMemcpyAsync(self, to: Any, origin: Any, size: Any, kind: int, stream: Any) -> int:  # noqa: N802
        ctypes.memmove(to, origin, size.value)
        return 0
