"""How a checkpoint makes one vector of a text's token vectors, from sentence-transformers' files.

A folder of sentence-transformers lists its modules in modules.json, each with a folder of its own:

    Transformer  ->  Pooling (1_Pooling)  ->  any of Dense (2_Dense), LayerNorm, Normalize, in any order

The forms of versions 2 to 6 are read. A folder without modules.json is a plain transformers checkpoint, whose
vectors are the mean over its tokens, as sentence-transformers has it.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export import json_files, poolings
from export.checkpoint import transformer_settings
from export.checkpoint.modules import TASKS, Module, check_normalize, dense_config, layer_norm_size, module_weights
from export.checkpoint.transformer_settings import TransformerSettings, longest_text
from export.errors import ExportError

MODEL_CONFIG = "config_sentence_transformers.json"

# In the order in which sentence-transformers joins them.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_OF_TOKENS = ("maxsim", "meanmaxsim")
# The keys of each file that are honoured here or have no effect on vectors. sentence-transformers hands most of these
# files to a constructor as they are, so that a key which is not known here is one that a later version gave a meaning:
# it is refused by name.
_POOLING_KEYS = {*_POOLING_FLAGS, "pooling_mode", "include_prompt", "word_embedding_dimension", "embedding_dimension"}
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


def loading(modules: tuple[Module, ...]) -> TransformerSettings:
    """Return how sentence-transformers loads the network and the tokenizer.

    Raises:
        ExportError: Its settings are damaged, or there are some that would be lost.
    """
    return transformer_settings.read(modules[0].folder, TASKS[modules[0].kind]) if modules else TransformerSettings()


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


def _layer_norm(folder: Path, width: int | None) -> Stage:
    size, weights = layer_norm_size(folder, width), module_weights(folder)
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
