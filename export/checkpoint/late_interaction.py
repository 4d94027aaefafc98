"""How a checkpoint makes a vector of each token of a text (ColBERT), from the files of those that write such ones.

sentence-transformers' MultiVectorEncoder lists its modules in modules.json: Transformer, any number of Dense over
tokens, MultiVectorMask, Normalize. PyLate lists a Transformer and a Dense, masks and normalises without saying so, and
says the rest in config_sentence_transformers.json. Stanford's ColBERT is a network with a layer `linear` and an
artifact.metadata. The last two are read as sentence-transformers reads them (6.2.0).
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export import json_files
from export.checkpoint import sentence_transformers, transformer_settings
from export.checkpoint.modules import Module, check_normalize, dense_config, module_weights
from export.checkpoint.sentence_transformers import MODEL_CONFIG, Defaults
from export.checkpoint.transformer_settings import LATE_INTERACTION, TransformerSettings, longest_text
from export.checkpoint.weights import SafetensorsWeights, WithModules
from export.errors import ExportError
from export.network.architectures.encoder import Encoder, Linear, Projection, Stored, TokenVectors, linear
from export.tokenizer.conversion import TokenizerSource

INPUT_TYPES = ("query", "document")

_STANFORD = "HF_ColBERT"
_METADATA = "artifact.metadata"
_PYLATE = "ColBERT"  # its model_type
_OF_PYLATE = "pylate."  # and its modules
_MODEL_TYPES = ("MultiVectorEncoder", _PYLATE)
_KINDS = ("Dense", "MultiVectorMask", "Normalize")
_MASK_KEYS = {"skiplist_words", "skiplist_tasks", "keep_only_token_ids"}
_EXPANSION_KEYS = {"strategy", "attend", "token", "length"}
_STRATEGIES = ("fixed", "min")
# What PyLate says beside a model's own keys.
_PYLATE_KEYS = {
    "query_prefix",
    "document_prefix",
    "query_length",
    "document_length",
    "query_expansion",
    "do_query_expansion",
    "attend_to_expansion_tokens",
    "attend_to_mask_tokens",
    "skiplist_words",
}
_USUAL_QUERY = 32  # tokens, in PyLate and in ColBERT
_STANFORD_MARKERS = {"query": ("query_token_id", "[unused0]"), "document": ("doc_token_id", "[unused1]")}


@dataclass(frozen=True)
class Expansion:
    """What queries are filled up with, behind their last special token.

    Attributes:
        id: Of the token.
        length: Of a query with it, in tokens, special ones included.
        fixed: Whether longer queries are cut to that.
        attend: Whether other tokens attend to it.
    """

    id: int
    length: int
    fixed: bool = True
    attend: bool = False


@dataclass(frozen=True)
class LateInteraction:
    """What is done with texts, and with vectors of tokens.

    Attributes:
        dimension: Length of a token's vector.
        made: What is done to a token's state, in words: the activation of each Dense, and `normalize`.
        lengths: Where texts of an input_type are cut, in tokens; those of none by the name of nothing.
        expansion: Of queries; None for none.
        skip_ids: Tokens whose vectors do not count.
        skip_types: The input_types where they do not; a text of none is a document.
        skips_first: Whether the vector of a text's first token does not count.
    """

    dimension: int
    made: str
    lengths: Mapping[str, int] = field(default_factory=dict)
    expansion: Expansion | None = None
    skip_ids: tuple[int, ...] = ()
    skip_types: tuple[str, ...] = ("document",)
    skips_first: bool = False


@dataclass(frozen=True)
class Files:
    """What the files say, the tokenizer's left out.

    Attributes:
        path: Where expansion and lengths are said.
        defaults: What they say as those of other checkpoints do.
        loading: How the network and the tokenizer are loaded.
        projections: What is done to the state of a token.
        folders: Where the weights of these are, by how their names begin.
        normalize: Whether vectors then get length 1.
        markers: What stands before texts and is one token, where the tokenizer knows it.
        lengths: Where texts of an input_type are cut, where that is said.
        expansion: As sentence-transformers' Transformer has it.
        skip_words: Tokens whose vectors do not count, where the tokenizer has them.
        skip_types: See `LateInteraction`.
    """

    path: Path
    defaults: Defaults
    loading: TransformerSettings
    projections: tuple[Projection, ...]
    folders: Mapping[str, Path]
    normalize: bool
    markers: tuple[str, ...]
    lengths: Mapping[str, int]
    expansion: Mapping[str, Any] | None
    skip_words: tuple[str, ...]
    skip_types: tuple[str, ...]

    @property
    def head(self) -> TokenVectors:
        """What the network has behind its encoder."""
        silent = self.expansion is not None and not self.expansion["attend"]
        return TokenVectors(self.projections, self.normalize, silent)

    def weights(self, encoder: SafetensorsWeights) -> WithModules:
        """All weights of the network, where `encoder` has those of its encoder."""
        return WithModules(encoder, {f"{key}/": module_weights(folder) for key, folder in self.folders.items()})

    def settled(self, tokens: TokenizerSource, encoder: Encoder) -> LateInteraction:
        """What follows with a tokenizer.

        Raises:
            ExportError: The two do not go together.
        """
        base = self.defaults.max_seq_len
        lengths = {"": base} | {name: min(self.lengths.get(name, base), encoder.max_positions) for name in INPUT_TYPES}
        expansion = self._expansion(tokens, encoder, lengths) if self.expansion else None
        made = [f"{part.activation}{'+residual' * part.adds}" for part in self.projections]
        return LateInteraction(
            dimension=self.projections[-1].size if self.projections else encoder.hidden_size,
            made=" ".join([*made, *["normalize"] * self.normalize]) or "nothing",
            lengths=lengths | ({"query": expansion.length} if expansion and expansion.fixed else {}),
            expansion=expansion,
            skip_ids=tuple(sorted({tokens.ids[word] for word in self.skip_words if word in tokens.ids})),
            skip_types=self.skip_types,
        )

    def _expansion(self, tokens: TokenizerSource, encoder: Encoder, lengths: Mapping[str, int]) -> Expansion:
        assert self.expansion
        token, length = self.expansion["token"] or tokens.mask_token, self.expansion["length"]
        fixed = self.expansion["strategy"] == "fixed"
        most = encoder.max_positions if fixed else lengths["query"]
        if length > most:
            raise ExportError(
                f"{self.path}: query_expansion fills queries up to {length} tokens; this checkpoint takes {most}"
            )
        if token not in tokens.ids:
            raise ExportError(
                f"{self.path}: query_expansion fills queries up with {json_files.shown(token)}, which is no token of "
                "the tokenizer"
            )
        if tokens.pads != ("right", 0):
            raise ExportError(
                f"{self.path}: query_expansion fills queries up where the tokenizer pads them, on the {tokens.pads[0]} "
                f"with the token type {tokens.pads[1]}; export works for the right, with 0"
            )
        if not self.expansion["attend"] and encoder.model_type.startswith("deberta"):
            raise ExportError(
                f"{self.path}: query_expansion has tokens that others do not attend to, which in {encoder.model_type} "
                "attend to nothing; export works for attend true"
            )
        return Expansion(tokens.ids[token], length, fixed, self.expansion["attend"])


def is_one(root: Path, modules: Sequence[Module]) -> bool:
    """Whether a checkpoint is one of late interaction."""
    if not modules:
        architectures = json_files.read_object(root / "config.json", optional=True).get("architectures")
        return isinstance(architectures, list) and _STANFORD in architectures
    model_type = json_files.read_object(root / MODEL_CONFIG, optional=True).get("model_type")
    return model_type in _MODEL_TYPES or any(module.type_name.startswith(_OF_PYLATE) for module in modules)


def read(root: Path, modules: Sequence[Module], encoder: Encoder) -> Files:
    """Read the files of such a checkpoint.

    Raises:
        ExportError: One is damaged, or asks for what export does not write.
    """
    return _of_modules(root, modules, encoder) if modules else _of_stanford(root, encoder)


def _of_modules(root: Path, modules: Sequence[Module], encoder: Encoder) -> Files:
    path, folder = root / MODEL_CONFIG, modules[0].folder
    config = json_files.read_object(path, optional=True)
    loading = transformer_settings.read(folder, late_interaction=True)
    if loading.unsupported:
        raise ExportError(loading.unsupported)
    projections, folders, mask, normalize = _modules(modules, encoder.hidden_size)
    # PyLate masks and normalises without saying so.
    legacy = config.get("model_type") == _PYLATE or any(module.type_name.startswith(_OF_PYLATE) for module in modules)
    if legacy == bool(mask):
        state = "a MultiVectorMask, and PyLate has its own" if mask else "no MultiVectorMask to say what vectors count"
        raise ExportError(f"{root / 'modules.json'}: has {state}; load and save it with MultiVectorEncoder")
    skip_words, skip_types = _mask(mask) if mask else (_words(path, config), ("document",))
    prompts, markers = _prompts(path, config)
    said = {**_knobs(path, config), **loading.late_interaction}  # of which the second are the Transformer's own
    return Files(
        path=root,  # which has two files for them
        defaults=sentence_transformers.of_tokens(
            path, config, prompts, longest_text(folder, loading, encoder.max_positions), _PYLATE_KEYS
        ),
        loading=loading,
        projections=projections,
        folders=folders,
        normalize=normalize or legacy,
        markers=markers,
        lengths={name: said[f"{name}_length"] for name in INPUT_TYPES if said.get(f"{name}_length") is not None},
        expansion=_checked(root, said),
        skip_words=skip_words,
        skip_types=skip_types,
    )


def _of_stanford(root: Path, encoder: Encoder) -> Files:
    path = root / _METADATA
    metadata = json_files.read_object(path, optional=True)
    prompts = {}
    for name, (key, usual) in _STANFORD_MARKERS.items():
        marker = metadata.get(key) or usual
        if not isinstance(marker, str):
            raise ExportError(f"{path}: {key} is {json_files.shown(marker)}; a token is expected")
        prompts[name] = f"{marker} "
    said: dict[str, Any] = {
        "document_length": metadata.get("doc_maxlen"),
        "query_expansion": {
            "strategy": "fixed",
            "attend": bool(metadata.get("attend_to_mask_tokens")),
            "length": metadata.get("query_maxlen") or _USUAL_QUERY,
        },
    }
    (size, size_in) = SafetensorsWeights(root).shape("linear.weight", 2)
    _check_width(root, size_in, encoder.hidden_size)
    expansion = _checked(path, said)
    skips = metadata.get("mask_punctuation", True)
    return Files(
        path=path,
        defaults=Defaults(
            longest_text(root, TransformerSettings(), encoder.max_positions), prompts=prompts, similarity="maxsim"
        ),
        loading=TransformerSettings(),
        projections=(Projection(linear("linear", bias=False), size_in, size),),
        folders={},
        normalize=True,
        markers=tuple(prompts.values()),
        lengths={} if said["document_length"] is None else {"document": said["document_length"]},
        expansion=expansion,
        skip_words=tuple(string.punctuation) if skips else (),
        skip_types=("document",),
    )


def _modules(
    modules: Sequence[Module], width: int
) -> tuple[tuple[Projection, ...], dict[str, Path], Module | None, bool]:
    """What is behind the Transformer: projections, their folders, the mask, and whether vectors are normalised."""
    projections: list[Projection] = []
    folders: dict[str, Path] = {}
    mask, normalize = None, False
    for index, module in enumerate(modules[1:], start=1):
        if module.kind not in _KINDS or (module.kind == "MultiVectorMask" and mask):
            raise ExportError(
                f"{module.folder}: a {module.kind} behind vectors of tokens; export works for {', '.join(_KINDS)}, "
                "the second once"
            )
        if module.kind == "MultiVectorMask":
            mask = module
        elif module.kind == "Normalize":
            check_normalize(module.folder, of_tokens=True)
            normalize = True
        elif normalize:
            raise ExportError(f"{module.folder}: a Dense behind a Normalize; export works for one before it")
        else:
            key = f"{index}_Dense"
            dense = dense_config(module.folder, width, of_tokens=True)
            size, size_in = dense.shape
            bias = Stored(f"{key}/linear.bias") if dense.bias else None
            has_own = dense.residual and size != size_in
            projections.append(
                Projection(
                    Linear(Stored(f"{key}/linear.weight"), bias),
                    size_in,
                    size,
                    dense.activation,
                    adds=dense.residual,
                    residual=linear(f"{key}/residual", bias=False) if has_own else None,
                )
            )
            folders[key], width = module.folder, size
    return tuple(projections), folders, mask, normalize


def _mask(module: Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    path = module.folder / "config.json"
    config = json_files.read_object(path)
    json_files.check_keys(path, config, _MASK_KEYS)
    if config.get("keep_only_token_ids"):
        raise ExportError(
            f"{path}: keep_only_token_ids is {json_files.shown(config['keep_only_token_ids'])}, which is for images; "
            "export works for null"
        )
    tasks = config.get("skiplist_tasks")
    tasks = [tasks] if isinstance(tasks, str) else ["document"] if tasks is None else tasks
    if not isinstance(tasks, list) or not all(task in INPUT_TYPES for task in tasks):
        raise ExportError(
            f"{path}: skiplist_tasks is {json_files.shown(tasks)}; export works for {' and '.join(INPUT_TYPES)}"
        )
    return _strings(path, "skiplist_words", config.get("skiplist_words") or []), tuple(tasks)


def _words(path: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    words = config.get("skiplist_words")
    if words is not None:
        return _strings(path, "skiplist_words", words)
    # PyLate's own default, which counts where its files say more than the names of modules.
    is_pylate = config.get("model_type") == _PYLATE or any(f"{name}_prefix" in config for name in INPUT_TYPES)
    return tuple(string.punctuation) if is_pylate else ()


def _strings(path: Path, key: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ExportError(f"{path}: {key} is {json_files.shown(values)}; a list of strings is expected")
    return tuple(values)


def _prompts(path: Path, config: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The prompts, with PyLate's markers before them; and these."""
    # A model has both, so that no prompt `passage` stands before documents.
    prompts = dict.fromkeys(INPUT_TYPES, "") | sentence_transformers.prompts(path, config)
    markers = []
    for name in INPUT_TYPES:
        marker = config.get(f"{name}_prefix") or ""
        if not isinstance(marker, str):
            raise ExportError(f"{path}: {name}_prefix is {json_files.shown(marker)}; a string is expected")
        prompts[name] = marker + prompts[name].removeprefix(marker)
        markers.append(marker)
    return prompts, tuple(markers)


def _knobs(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What PyLate says, by the names of sentence-transformers' Transformer."""
    said = {key: config[key] for key in LATE_INTERACTION if config.get(key) is not None}
    if "query_expansion" in config:
        return said | {"query_expansion": config["query_expansion"]}
    if not _PYLATE_KEYS & config.keys():
        return said
    if config.get("do_query_expansion") is False:
        return said | {"query_expansion": None}
    attend = config.get("attend_to_expansion_tokens", config.get("attend_to_mask_tokens"))
    length = said.pop("query_length", None) or _USUAL_QUERY
    return said | {"query_expansion": {"strategy": "fixed", "attend": bool(attend), "length": length}}


def _checked(path: Path, said: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The expansion, all keys of it."""
    for name in INPUT_TYPES:
        _check_length(path, f"{name}_length", said.get(f"{name}_length"))
    expansion = said.get("query_expansion")
    if expansion is None:
        return None
    if not isinstance(expansion, dict):
        raise ExportError(f"{path}: query_expansion is {json_files.shown(expansion)}; an object is expected")
    json_files.check_keys(path, expansion, _EXPANSION_KEYS, "query_expansion ")
    found = {"attend": False, "token": None, **expansion}
    for key, right, wanted in (
        ("strategy", found.get("strategy") in _STRATEGIES, " or ".join(_STRATEGIES)),
        ("attend", isinstance(found["attend"], bool), "true or false"),
        ("token", isinstance(found["token"], str | None), "a token"),
    ):
        if not right:
            raise ExportError(
                f"{path}: query_expansion has {key} {json_files.shown(found.get(key))}; {wanted} is expected"
            )
    _check_length(path, "query_expansion's length", found.get("length", ""))
    if said.get("query_length") is not None and said["query_length"] < found["length"]:
        raise ExportError(
            f"{path}: query_length is {said['query_length']}, and query_expansion fills queries up to {found['length']}"
        )
    return found


def _check_length(path: Path, key: str, length: Any) -> None:
    if length is not None and (not isinstance(length, int) or isinstance(length, bool) or length < 1):
        raise ExportError(f"{path}: {key} is {json_files.shown(length)}; a whole number above 0 is expected")


def _check_width(path: Path, size: int, width: int) -> None:
    if size != width:
        raise ExportError(f"{path}: its linear.weight takes vectors of length {size}, and those before it have {width}")
