"""How a checkpoint makes one vector of a text's token vectors, from sentence-transformers' files.

A folder of sentence-transformers lists its modules in modules.json, each with a folder of its own:

    Transformer  ->  Pooling (1_Pooling)  ->  any of Dense (2_Dense), LayerNorm, Normalize, in any order

The forms of versions 2 to 6 are read. A folder without modules.json is a plain transformers checkpoint, whose
vectors are the mean over its tokens, as sentence-transformers has it.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from export import json_files, poolings
from export.checkpoint import transformer_settings
from export.checkpoint.transformer_settings import TransformerSettings, longest_text
from export.checkpoint.weights import ONE_FILE, SafetensorsWeights
from export.errors import ExportError

MODEL_CONFIG = "config_sentence_transformers.json"

_WORKING_MODULES = (
    "Transformer",
    "Pooling",
    "Dense",
    "LayerNorm",
    "Normalize",
    "Dropout",
    "SpladePooling",
    "MultiVectorMask",
)
_OTHERS = {"pylate.models.Dense.Dense": "Dense"}
"""Classes of others that are one of these."""

# In the order in which sentence-transformers joins them.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.LeakyReLU": "leaky_relu",
}
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_OF_TOKENS = ("maxsim", "meanmaxsim")
_TEXT_VECTOR = "sentence_embedding"
_TOKEN_VECTOR = "token_embeddings"
# The keys of each file that are honoured here or have no effect on vectors. sentence-transformers hands most of these
# files to a constructor as they are, so that a key which is not known here is one that a later version gave a meaning:
# it is refused by name.
_MODULE_KEYS = {"idx", "name", "path", "type", "kwargs"}
_POOLING_KEYS = {*_POOLING_FLAGS, "pooling_mode", "include_prompt", "word_embedding_dimension", "embedding_dimension"}
_DENSE_KEYS = {
    "activation_function",
    "bias",
    "in_features",
    "module_input_name",
    "module_output_name",
    "out_features",
    "use_residual",
}
_LAYER_NORM_KEYS = {"dimension"}
_NORMALIZE_KEYS = {"module_input_name", "module_output_name"}
_MODEL_KEYS = {
    "__version__",
    "activation_fn",
    "default_prompt_name",
    "keep_in_fp32_modules",
    "max_active_dims",
    "model_type",
    "prompts",
    "requirements",
    "similarity_fn_name",
    "truncate_dim",
}


@dataclass(frozen=True)
class Module:
    """An entry of modules.json.

    Attributes:
        kind: The name of its class, without the path of the Python module, which changed between versions.
        folder: Where its files are.
        type_name: The class with that path.
    """

    kind: str
    folder: Path
    type_name: str = ""


@dataclass(frozen=True)
class DenseConfig:
    """What a Dense says of itself; `shape` is [out, in]."""

    shape: tuple[int, int]
    activation: str
    bias: bool
    residual: bool


@dataclass(frozen=True, eq=False)
class Stage:
    """What is done to a vector behind the pooling.

    Attributes:
        kind: `normalize`, to length 1; `layer_norm`, as torch's; or, for a Dense, its activation (one of
            `_ACTIVATIONS`; gelu is the exact one, by erf), with `+residual` where its input is added to what it gives.
        arrays: By name, float32: of a Dense `weight` [out, in], `bias` [out] where it has one, and `residual` [out, in]
            where that is not the input itself; of a LayerNorm `weight` and `bias`, [size].
    """

    kind: str
    arrays: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, int] | None:
        """The lengths of the vectors that it takes and gives, or None for any and the same."""
        weight = self.arrays.get("weight")
        return None if weight is None else (weight.shape[-1], weight.shape[0])


@dataclass(frozen=True)
class Defaults:
    """What a checkpoint says about encoding, for requests that do not say otherwise.

    Attributes:
        max_seq_len: Texts are cut after this many tokens, special tokens included.
        pooling: See `poolings`; empty where `unsupported` says why there is none.
        normalize: Whether vectors are scaled to length 1 at the end.
        prompts: Texts put before a text, by name.
        default_prompt_name: The prompt of requests that name none.
        stages: What is done between the pooling and that, in order.
        similarity: How vectors are meant to be compared: one of cosine, dot, euclidean, manhattan.
        include_prompt: Whether the tokens of a prompt are pooled.
        unsupported: Why the checkpoint's own way from token vectors to one vector cannot be exported, or
            None. An export then needs the user to choose a pooling.
    """

    max_seq_len: int
    pooling: str = "mean"
    normalize: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    stages: tuple[Stage, ...] = ()
    similarity: str = "cosine"
    include_prompt: bool = True
    unsupported: str | None = None


def read_modules(root: Path) -> tuple[Module, ...]:
    """Read modules.json; empty where there is none. Classes that it names are never imported.

    Raises:
        ExportError: It is damaged, or names a module that is not among those that export works for.
    """
    path = root / "modules.json"
    if not path.exists():
        return ()
    entries = json_files.read(path)
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("type"), str) and isinstance(entry.get("path", ""), str)
        for entry in entries
    ):
        raise ExportError(f"{path}: a list of modules with a type and a path each is expected")
    for entry in entries:
        json_files.check_keys(path, entry, _MODULE_KEYS, f"module {json_files.shown(entry['type'])} ")
    modules = tuple(
        Module(_kind(path, entry["type"]), _module_folder(path, entry.get("path", "")), entry["type"])
        for entry in entries
    )
    if not modules or modules[0].kind != "Transformer":
        raise ExportError(f"{path}: the first module is expected to be a Transformer")
    return modules


def loading(modules: tuple[Module, ...]) -> TransformerSettings:
    """Return how sentence-transformers loads the network and the tokenizer.

    Raises:
        ExportError: Its settings are damaged, or there are some that would be lost.
    """
    return transformer_settings.read(modules[0].folder) if modules else TransformerSettings()


def read(root: Path, modules: tuple[Module, ...], *, hidden_size: int, max_positions: int) -> Defaults:
    """Read the encoding defaults of a checkpoint.

    Args:
        root: The checkpoint's folder.
        modules: What `read_modules` returned for it.
        hidden_size: Length of a token's vector.
        max_positions: Rows of the network's position embeddings.

    Raises:
        ExportError: A file is damaged, or a module does something that cannot be exported even under another
            pooling.
    """
    if not modules:
        return Defaults(max_seq_len=longest_text(root, TransformerSettings(), max_positions))
    settings = loading(modules)
    config_path = root / MODEL_CONFIG
    config = json_files.read_object(config_path, optional=True)
    json_files.check_keys(config_path, config, _MODEL_KEYS)
    _check_own_length(config_path, config)
    own_prompts = prompts(config_path, config)
    pooling, unsupported = _pooling(modules)
    unsupported = settings.unsupported or _unsupported_model(config) or unsupported
    width = None if unsupported else hidden_size * len(poolings.parts(pooling))
    stages, normalize = _after_pooling(modules, width)
    return Defaults(
        max_seq_len=longest_text(modules[0].folder, settings, max_positions),
        pooling="" if unsupported else pooling,
        normalize=normalize,
        prompts=own_prompts,
        default_prompt_name=_default_prompt(config_path, config, own_prompts),
        stages=stages,
        similarity=_similarity(config_path, config),
        include_prompt=_include_prompt(modules),
        unsupported=unsupported,
    )


def of_tokens(
    path: Path, config: Mapping[str, Any], own_prompts: dict[str, str], max_seq_len: int, more_keys: Collection[str]
) -> Defaults:
    """What `read` returns, of a checkpoint that gives a vector for each token.

    Args:
        path: Its config_sentence_transformers.json.
        config: What that holds.
        own_prompts: Of the checkpoint.
        max_seq_len: Where texts are cut.
        more_keys: What may be in the file beside the usual.

    Raises:
        ExportError: Something in it would be lost.
    """
    json_files.check_keys(path, config, _MODEL_KEYS | {*more_keys})
    _check_own_length(path, config)
    said = config.get("similarity_fn_name")
    return Defaults(
        max_seq_len=max_seq_len,
        prompts=own_prompts,
        default_prompt_name=_default_prompt(path, config, own_prompts),
        similarity=said if said in _OF_TOKENS else _OF_TOKENS[0],  # whatever else it says, as there
    )


def _check_own_length(path: Path, config: Mapping[str, Any]) -> None:
    if config.get("truncate_dim") is not None:
        raise ExportError(
            f"{path}: truncate_dim is {json_files.shown(config['truncate_dim'])}, which a family has no setting "
            "for; remove it there, and give the parameter truncate_dim in requests"
        )


def _default_prompt(path: Path, config: Mapping[str, Any], own_prompts: Mapping[str, str]) -> str | None:
    default = config.get("default_prompt_name")
    if default is not None and (not isinstance(default, str) or default not in own_prompts):
        raise ExportError(
            f"{path}: default_prompt_name is {json_files.shown(default)}, which is not among its prompts "
            f"({json_files.cut(', '.join(map(repr, own_prompts))) or 'there are none'})"
        )
    return default


def _kind(path: Path, type_name: str) -> str:
    if type_name in _OTHERS:
        return _OTHERS[type_name]
    package, _, name = type_name.rpartition(".")
    if package.split(".")[0] != "sentence_transformers" or name not in _WORKING_MODULES:
        raise ExportError(
            f"{path}: has the module {json_files.cut(type_name, 120)}; export works for sentence_transformers' "
            f"{', '.join(_WORKING_MODULES)}, and never runs code that comes with a checkpoint"
        )
    return name


def _module_folder(path: Path, relative: str) -> Path:
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts or "\0" in relative:
        raise ExportError(f"{path}: the module path {json_files.shown(relative)} leads out of the checkpoint")
    return path.parent / parts


def prompts(path: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the prompts in a config_sentence_transformers.json, by name.

    Raises:
        ExportError: They are damaged.
    """
    found = config.get("prompts") or {}
    if not isinstance(found, dict) or not all(isinstance(text, str | None) for text in found.values()):
        raise ExportError(f"{path}: prompts is {json_files.shown(found)}; an object of texts by name is expected")
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ExportError(f"{path}: prompts holds half of a surrogate pair, which is no text") from None
    return {name: text or "" for name, text in found.items()}


def _unsupported_model(config: dict[str, Any]) -> str | None:
    kind = config.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        return (
            f"config_sentence_transformers.json: model_type is {json_files.shown(kind)} "
            "(export works for 'SentenceTransformer')"
        )
    return None


def _pooling(modules: tuple[Module, ...]) -> tuple[str, str | None]:
    """Return the pooling, and why it cannot be exported if so."""
    if len(modules) < 2 or modules[1].kind != "Pooling":
        return "", "modules.json: no Pooling comes after the Transformer"
    path = modules[1].folder / "config.json"
    config = json_files.read_object(path)
    json_files.check_keys(path, config, _POOLING_KEYS)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    modes = tuple(map(str, modes)) if isinstance(modes, list) else (str(modes),)
    known = tuple(_POOLING_FLAGS.values())
    if not modes or not {*modes} <= {*known} or len({*modes}) < len(modes):
        found = json_files.cut("+".join(modes))
        return "", f"{path}: pools by {found} (export works for {', '.join(known)}, each once)"
    return poolings.name(part for mode in modes for part in poolings.parts(mode)), None


def _include_prompt(modules: tuple[Module, ...]) -> bool:
    if len(modules) < 2 or modules[1].kind != "Pooling":
        return True
    path = modules[1].folder / "config.json"
    include = json_files.read_object(path).get("include_prompt", True)
    if not isinstance(include, bool):
        raise ExportError(f"{path}: include_prompt is {json_files.shown(include)}; true or false is expected")
    return include


def _similarity(path: Path, config: Mapping[str, Any]) -> str:
    similarity = config.get("similarity_fn_name")
    if similarity is None:
        return "cosine"
    if similarity not in _SIMILARITIES:
        raise ExportError(
            f"{path}: similarity_fn_name is {json_files.shown(similarity)}; export works for {', '.join(_SIMILARITIES)}"
        )
    return str(similarity)


def _after_pooling(modules: tuple[Module, ...], width: int | None) -> tuple[tuple[Stage, ...], bool]:
    """Read the modules behind the pooling: what they do, and whether vectors are normalised after that."""
    stages: list[Stage] = []
    for module in modules[1:]:
        if module.kind == "Normalize":
            check_normalize(module.folder)
            stages.append(Stage("normalize"))
        elif module.kind in ("Dense", "LayerNorm"):
            stages.append((_dense if module.kind == "Dense" else _layer_norm)(module.folder, width))
            width = len(stages[-1].arrays["weight"])
        elif module.kind == "SpladePooling":
            if len(modules) > 2 or module is not modules[1]:
                raise ExportError(f"{module.folder}: a SpladePooling is expected behind a Transformer alone")
        elif module.kind == "MultiVectorMask":
            raise ExportError(f"{module.folder}: a MultiVectorMask is for vectors of tokens, of a MultiVectorEncoder")
        elif module.kind != "Dropout" and not (module.kind == "Pooling" and module is modules[1]):
            raise ExportError(f"{module.folder}: a {module.kind} is expected at the start of modules.json only")
    normalize = bool(stages) and stages[-1].kind == "normalize"
    while stages and stages[-1].kind == "normalize":
        stages.pop()
    return tuple(stages), normalize


def check_normalize(folder: Path, of_tokens: bool = False) -> None:
    """Refuse a Normalize of another vector than that of a text, or those of its tokens.

    Raises:
        ExportError: It is one, or says what would be lost.
    """
    config = json_files.read_object(folder / "config.json", optional=True)
    json_files.check_keys(folder / "config.json", config, _NORMALIZE_KEYS)
    if of_tokens:  # where a file is silent, it is a text's vector that is meant, and there is none
        config = {"module_input_name": _TEXT_VECTOR, **config}
    _check_vector(folder, config, of_tokens)


def _layer_norm(folder: Path, width: int | None) -> Stage:
    path = folder / "config.json"
    config = json_files.read_object(path)
    json_files.check_keys(path, config, _LAYER_NORM_KEYS)
    size = _size(path, config, "dimension")
    _check_width(path, "dimension", size, width)
    weights = module_weights(folder)
    return Stage("layer_norm", {name: weights.take(f"norm.{name}", (size,)) for name in ("weight", "bias")})


def _dense(folder: Path, width: int | None) -> Stage:
    config, weights = dense_config(folder, width), module_weights(folder)
    arrays = {"weight": weights.take("linear.weight", config.shape)}
    if config.bias:
        arrays["bias"] = weights.take("linear.bias", config.shape[:1])
    if not config.residual:
        return Stage(config.activation, arrays)
    if config.shape[0] != config.shape[1]:
        arrays["residual"] = weights.take("residual.weight", config.shape)
    return Stage(f"{config.activation}+residual", arrays)


def dense_config(folder: Path, width: int | None, of_tokens: bool = False) -> DenseConfig:
    """Read the config.json of a Dense.

    Args:
        folder: Of the module.
        width: Length of the vectors before it; None where nobody knows.
        of_tokens: Whether it is done to tokens' vectors, and not to that of a text.

    Raises:
        ExportError: It is damaged, or something in it would be lost.
    """
    path = folder / "config.json"
    config = json_files.read_object(path)
    json_files.check_keys(path, config, _DENSE_KEYS)
    _check_vector(folder, config, of_tokens)
    shape = _size(path, config, "out_features"), _size(path, config, "in_features")
    _check_width(path, "in_features", shape[1], width)
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise ExportError(
            f"{path}: activation_function is {json_files.shown(activation)}; export works for {', '.join(_ACTIVATIONS)}"
        )
    return DenseConfig(
        shape, _ACTIVATIONS[activation], bool(config.get("bias", True)), bool(config.get("use_residual"))
    )


def module_weights(folder: Path) -> SafetensorsWeights:
    """Return the weights of a module.

    Raises:
        ExportError: There are none as safetensors.
    """
    if not (folder / ONE_FILE).is_file():
        raise ExportError(
            f"{folder}: there is no {ONE_FILE}, and pickle files are refused; where the checkpoint is "
            "trusted, load it with sentence-transformers and save() it, which writes one"
        )
    return SafetensorsWeights(folder)


def _check_width(path: Path, key: str, size: int, width: int | None) -> None:
    if width is not None and size != width:
        raise ExportError(f"{path}: {key} is {size}, but the vectors before it have length {width}")


def _size(path: Path, config: dict[str, Any], key: str) -> int:
    size = config.get(key)
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        raise ExportError(f"{path}: {key} is {json_files.shown(size)}; a whole number above 0 is expected")
    return size


def _check_vector(folder: Path, config: dict[str, Any], of_tokens: bool) -> None:
    working = _TOKEN_VECTOR if of_tokens else _TEXT_VECTOR
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, working):
            raise ExportError(
                f"{folder / 'config.json'}: {key} is {json_files.shown(config[key])}; export works for {working!r}"
            )
