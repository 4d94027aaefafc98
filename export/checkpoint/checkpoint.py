"""A checkpoint as the export uses it: configuration, tokenizer, weights and encoding defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from export import json_files
from export.checkpoint import cross_encoder, google, hub, late_interaction, m3, sentence_transformers, sparse
from export.checkpoint.google import GoogleWeights
from export.checkpoint.late_interaction import LateInteraction
from export.checkpoint.modules import read_modules
from export.checkpoint.sentence_transformers import Defaults
from export.checkpoint.weights import SafetensorsWeights
from export.errors import ExportError
from export.network import architectures
from export.network.architectures import classifiers, masked_lms
from export.network.architectures.config import Config
from export.network.architectures.encoder import Encoder, Head, Splade, TokenVectors
from export.network.weights import Weights
from export.tokenizer import conversion

_ENCODERS = ("Model", "ForMaskedLM", "ForPreTraining", "ForNextSentencePrediction", "LMHeadModel")
"""How the classes end that are saved for their encoder: alone, or under the heads that it was pre-trained with."""

_MASKED_LM = ("ForMaskedLM", "ForPreTraining")
"""How those end that have a head over the vocabulary for each token."""

_CLASSIFIER = "ForSequenceClassification"
"""How those end that are saved for their scores."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, read and checked as far as that goes without its weights.

    Attributes:
        source: The folder or hub id as it was given.
        folder: Where the configuration, the tokenizer and, unless they are elsewhere, the weights are.
        encoder: The network, as its configuration describes it.
        settings: What the network depends on of its configuration, by transformers' keys.
        tokenizer_json: The text of a tokenizer.json, without truncation or padding.
        weights: The weights, by the names of transformers' model.
        defaults: How texts are encoded when a request does not say.
        truncation_side: Where a text that is too long loses tokens, `right` or `left`.
        split_special_tokens: Whether special tokens that are written in a text are cut up like any word.
        head: What is asked for instead of dense vectors: a Classifier, for its scores, a Splade, or TokenVectors; None
            for them.
        activation: Of a classifier, what makes scores of its logits, one of `family.ACTIVATIONS`.
        max_active_dims: Of a Splade, how many words of a vector are kept; None for all.
        beside: What is made of each token beside dense vectors, by the name of the network's output.
        lexical: Where that is a weight, the tokens whose weights do not count; None where it is not.
        multi: Where vectors of tokens are made, what is done with texts; None where they are not.
        notes: What the user should know, a line each.
    """

    source: str
    folder: Path
    encoder: Encoder
    settings: Mapping[str, Any]
    tokenizer_json: str
    weights: Weights
    defaults: Defaults
    truncation_side: str = "right"
    split_special_tokens: bool = False
    head: Head | None = None
    activation: str = ""
    max_active_dims: int | None = None
    beside: Mapping[str, TokenVectors] = field(default_factory=dict)
    lexical: tuple[int, ...] | None = None
    multi: LateInteraction | None = None
    notes: tuple[str, ...] = ()

    @property
    def longest(self) -> int:
        """Where the longest texts are cut, of whatever input_type, in tokens."""
        lengths: Mapping[str, int] = self.multi.lengths if self.multi else {}
        return max([self.defaults.max_seq_len, *lengths.values()])


def load(
    source: str,
    *,
    google_options: google.Options | None = None,
    encoder_only: bool = False,
    head: str | None = None,
    progress: bool = True,
) -> Checkpoint:
    """Read the checkpoint in a folder, or download it from the Hugging Face hub.

    Code that comes with a checkpoint (`auto_map`, module classes of its own, pickles) is never run.

    Args:
        source: A folder in Hugging Face's or Google's original format, or a hub id such as
            `BAAI/bge-small-en-v1.5`. A folder in both is read as Hugging Face's, unless there are
            `google_options`.
        google_options: What the user says about a checkpoint in Google's format; an error for any other.
        encoder_only: Take a classifier's or cross-encoder's encoder, without the head that it was trained for, and of
            BGE-M3 dense vectors alone.
        head: `splade` for the sparse vectors of a masked language model that says nothing of them; None for what the
            checkpoint says.
        progress: Show a progress bar of the download on standard error.

    Raises:
        ExportError: There is no such checkpoint, or it is damaged or not one that can be exported.
    """
    options = google_options or google.Options()
    folder = Path(source).expanduser()
    if google.is_in(folder, options):
        if head:
            raise ExportError(f"--head {head} is for a checkpoint in Hugging Face's format, and this is in Google's")
        return _load_google(source, folder, options)
    return _load_hugging_face(source, hub.locate(source, progress=progress), encoder_only, head)


def _load_google(source: str, folder: Path, options: google.Options) -> Checkpoint:
    encoder, config = read_config(options.config(folder), default_model_type="bert")
    vocabulary = folder / google.VOCABULARY
    return Checkpoint(
        source=source,
        folder=folder,
        encoder=encoder,
        settings=config.read,
        tokenizer_json=conversion.from_vocabulary(
            vocabulary,
            vocab_size=encoder.vocab_size,
            max_seq_len=encoder.max_positions,
            lowercase=not options.cased,
        ).json,
        weights=GoogleWeights(options.prefix(folder)),
        defaults=Defaults(max_seq_len=encoder.max_positions),
        notes=() if options.cased else google.lower_casing_notes(vocabulary),
    )


def _load_hugging_face(source: str, root: Path, encoder_only: bool, asked: str | None) -> Checkpoint:
    modules = read_modules(root)
    folder = modules[0].folder if modules else root
    if (folder / "adapter_config.json").exists():
        raise ExportError(
            f"{folder}: holds a PEFT adapter (adapter_config.json); merge it into its base model "
            "(merge_and_unload(), then save_pretrained()) and export that"
        )
    path = folder / "config.json"
    encoder, config = read_config(path)
    head: Head | None = None
    activation, max_active_dims, late, beside = "", None, None, None
    if not encoder_only:
        if late_interaction.is_one(root, modules):
            if asked:
                raise ExportError(f"{root}: gives a vector of each token; --head {asked} is for masked language models")
            late = late_interaction.read(root, modules, encoder)
            head = late.head
        elif asked == sparse.NAME or sparse.is_one(modules):
            _check_masked_lm(path)
            masked_lm = masked_lms.READERS[encoder.model_type](config, encoder)
            head, max_active_dims = sparse.read(root, modules, masked_lm)
        elif not any(module.kind == "Pooling" for module in modules) and _has_head(path):
            head = classifiers.READERS[encoder.model_type](config)
            activation = cross_encoder.activation(root, modules, config, len(head.labels))
        else:
            beside = m3.read(root, encoder.hidden_size)
    if late:
        defaults, loading = late.defaults, late.loading
    else:
        defaults = sentence_transformers.read(
            root, modules, hidden_size=encoder.hidden_size, max_positions=encoder.max_positions
        )
        if beside and not modules:
            defaults = m3.usual(defaults)
        loading = sentence_transformers.loading(modules)
    tokens = conversion.read(
        folder,
        vocab_size=encoder.vocab_size,
        max_seq_len=defaults.max_seq_len,
        max_positions=encoder.max_positions,
        lowercase=loading.lowercase,
        arguments=loading.arguments,
        markers=late.markers if late else (),
    )
    weights = SafetensorsWeights(
        folder,
        anchor=f"{encoder.words}.weight",
        others=(*encoder.other_names, *(head.masked_lm.other_names if isinstance(head, Splade) else ())),
        head=head.names if head else (),
    )
    if isinstance(head, Splade):
        head = replace(head, masked_lm=sparse.as_stored(head.masked_lm, weights, encoder))
    return Checkpoint(
        source=source,
        folder=folder,
        encoder=encoder,
        settings=config.read,
        tokenizer_json=tokens.json,
        weights=files.weights(weights) if (files := late or beside) else weights,
        defaults=defaults,
        truncation_side=tokens.truncation_side,
        split_special_tokens=tokens.split_special_tokens,
        head=head,
        activation=activation,
        max_active_dims=max_active_dims,
        beside=beside.heads if beside else {},
        lexical=beside.lexical(tokens) if beside else None,
        multi=late.settled(tokens, encoder) if late else beside.multi() if beside else None,
    )


def read_config(path: Path, *, default_model_type: str | None = None) -> tuple[Encoder, Config]:
    """Read a config.json or bert_config.json: the network, and the file, which knows what was read of it.

    Args:
        path: The file.
        default_model_type: What a file without `model_type` describes; None leaves it to its `architectures`.

    Raises:
        ExportError: It is absent or damaged, or describes a network that export does not write.
    """
    values = json_files.read_object(path)
    model_type = values.get("model_type", default_model_type)
    classes = _architectures(path, values)
    # Configs of 2019 have no model_type, only the class that was saved.
    if model_type is None and classes and all(name.startswith("Bert") for name in classes):
        model_type = "bert"
    read = architectures.READERS.get(model_type) if isinstance(model_type, str) else None
    if not read:
        raise ExportError(
            f"{path}: model_type is {json_files.shown(model_type)}; export works for {', '.join(architectures.READERS)}"
            + (", and never runs code that comes with a checkpoint (auto_map)" if values.get("auto_map") else "")
        )
    config = Config(path, values)
    return read(config), config


def _architectures(path: Path, values: dict[str, Any]) -> list[str]:
    architectures = values.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise ExportError(f"{path}: architectures is {json_files.shown(architectures)}; a list of names is expected")
    return architectures


def _has_head(path: Path) -> bool:
    """Whether a network answers with scores, of all its labels, by a head that export writes.

    Others are refused whose answer is their head's: vectors of the encoder below it were never trained to be any.
    """
    names = _architectures(path, json_files.read_object(path))
    if names and all(name.endswith(_CLASSIFIER) for name in names):
        return True
    for name in names:
        if not name.endswith(_ENCODERS):
            raise ExportError(
                f"{path}: architectures names {json_files.shown(name)}, a network with a head of its own, and of those "
                f"export works for *{_CLASSIFIER}; vectors of the encoder below it are another thing than its answer: "
                "pass --encoder-only if you want them"
            )
    return False


def _check_masked_lm(path: Path) -> None:
    names = _architectures(path, json_files.read_object(path))
    if not names or not all(name.endswith(_MASKED_LM) for name in names):
        raise ExportError(
            f"{path}: architectures is {json_files.shown(names)}; sparse vectors are made by the head of a masked "
            f"language model, *{_MASKED_LM[0]} or *{_MASKED_LM[1]}"
        )
