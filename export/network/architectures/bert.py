"""BERT, and what differs from it in little: ERNIE (tasks), ELECTRA (a projection), RoBERTa and its kin (positions).

https://arxiv.org/abs/1810.04805; ERNIE https://arxiv.org/abs/1904.09223; ELECTRA https://arxiv.org/abs/2003.10555;
RoBERTa https://arxiv.org/abs/1907.11692.
"""

from __future__ import annotations

from dataclasses import replace

from export.errors import ExportError
from export.network.architectures.config import Config
from export.network.architectures.encoder import Encoder, Layer, Norm, Positions, linear

_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}


def read(
    config: Config,
    model_type: str = "bert",
    *,
    act: str = "gelu",
    epsilon: float = 1e-12,
    least_types: int = 1,
    positions: str = "absolute",
    **defaults: int,
) -> Encoder:
    """Read a config.json with BERT's keys.

    Args:
        config: The file.
        model_type: Of the encoder.
        act: hidden_act where the file does not say.
        epsilon: layer_norm_eps where it does not say.
        least_types: What type_vocab_size may be at least.
        positions: What position_embedding_type is, where it is there.
        defaults: Sizes where it does not say, by key, if they are not BERT's.
    """
    config.only("position_embedding_type", (positions,), positions)
    least = {"type_vocab_size": least_types}
    sizes = {key: config.size(key, default, least.get(key, 1)) for key, default in (_DEFAULTS | defaults).items()}
    return Encoder(
        model_type=model_type,
        hidden_size=sizes["hidden_size"],
        num_attention_heads=config.heads(sizes["hidden_size"], sizes["num_attention_heads"]),
        intermediate_size=sizes["intermediate_size"],
        vocab_size=sizes["vocab_size"],
        max_positions=sizes["max_position_embeddings"],
        type_vocab_size=sizes["type_vocab_size"],
        hidden_act=config.activation("hidden_act", act),
        norm=Norm(config.number("layer_norm_eps", epsilon)),
        words="embeddings.word_embeddings",
        types="embeddings.token_type_embeddings" if sizes["type_vocab_size"] else None,
        positions=Positions("embeddings.position_embeddings", sizes["max_position_embeddings"]),
        embeddings_norm="embeddings.LayerNorm",
        layers=tuple(layer(f"encoder.layer.{index}") for index in range(sizes["num_hidden_layers"])),
        pooler=linear("pooler.dense"),
    )


def layer(name: str) -> Layer:
    """Return BERT's layer, whose weights' names begin with `name`."""
    return Layer(
        query=linear(f"{name}.attention.self.query"),
        key=linear(f"{name}.attention.self.key"),
        value=linear(f"{name}.attention.self.value"),
        attention_output=linear(f"{name}.attention.output.dense"),
        attention_norm=f"{name}.attention.output.LayerNorm",
        up=linear(f"{name}.intermediate.dense"),
        down=linear(f"{name}.output.dense"),
        norm=f"{name}.output.LayerNorm",
    )


def read_ernie(config: Config) -> Encoder:
    """Read ERNIE's config.json: BERT, with the embedding of task 0 everywhere where there are task types."""
    tasks = config.size("task_type_vocab_size", 3) if config.flag("use_task_id", False) else 0
    constant = ("embeddings.task_type_embeddings", tasks) if tasks else None
    return replace(read(config, "ernie"), constant=constant)


def read_roc_bert(config: Config) -> Encoder:
    """Read RoCBert's config.json: BERT where no shapes and sounds of characters are asked for."""
    for key in ("enable_pronunciation", "enable_shape"):
        if config.flag("concat_input", True) and config.flag(key, True):
            raise config.error(key, "it takes inputs beside token ids, which export does not make")
    return read(config, "roc_bert")


def read_electra(config: Config) -> Encoder:
    """Read ELECTRA's config.json: BERT without a pooler, whose embeddings may be of another length."""
    encoder = read(config, "electra", hidden_size=256, num_attention_heads=4, intermediate_size=1024)
    encoder = replace(encoder, pooler=None)
    size = config.size("embedding_size", 128)
    if size == encoder.hidden_size:
        return encoder
    return replace(encoder, embedding_size=size, projection=linear("embeddings_project"))


def read_roberta(config: Config) -> Encoder:
    """Read the config.json of RoBERTa, XLM-RoBERTa or CamemBERT: BERT whose positions begin behind the padding id."""
    model_type = config.get("model_type")
    vocab_size = 50265 if model_type == "roberta" else 30522
    return with_positions_behind_padding(config, read(config, model_type, vocab_size=vocab_size))


def with_positions_behind_padding(config: Config, encoder: Encoder) -> Encoder:
    """Return an encoder that counts positions as RoBERTa does; so many rows are not for texts."""
    padding_id = config.size("pad_token_id", 1, least=0)
    assert encoder.positions is not None
    longest = encoder.positions.rows - padding_id - 1
    if longest < 1:
        raise ExportError(
            f"{config.path}: max_position_embeddings is {encoder.positions.rows}, which leaves no position for a text "
            f"behind pad_token_id {padding_id}"
        )
    return replace(encoder, positions=replace(encoder.positions, padding_id=padding_id), max_positions=longest)
