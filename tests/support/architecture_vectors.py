"""What the tests of architectures compare with: vectors by transformers' own models, on PyTorch, a row at a time.

`python -m tests.support.architecture_vectors` records them in tests/data/architectures.npz, which `make test` reads;
`make verify` computes them anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from export.network.architectures.encoder import Encoder
from tests.support.batches_of_ids import Feed, padded
from tests.support.checkpoints.architectures import (
    CLASSIFIERS,
    MASKED_LMS,
    TOKEN_VECTORS,
    VARIANTS,
    drawn,
    read,
    read_token_vectors,
)
from tests.support.places import DATA

RECORDED = DATA / "architectures.npz"
LOGITS = "logits of "  # and the name of a classifier
SPARSE = "sparse vectors of "  # and the name of a masked language model
TOKENS = "vectors of tokens of "  # and the name of a variant

_LITERAL = 1  # the id of a padding token, which a text may hold


@dataclass
class Ids:
    """Token ids as tokenizers.Encoding has them."""

    ids: list[int]

    @property
    def type_ids(self) -> list[int]:
        return [0] * len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def rows(encoder: Encoder) -> list[list[int]]:
    """Token ids of texts: short ones, one of which has a literal padding token, and the longest."""
    rng = np.random.default_rng(0)
    lengths = (3, encoder.max_positions, 17, 1)
    found = [rng.integers(3, encoder.vocab_size, length).tolist() for length in lengths]
    found[2][7] = _LITERAL
    return found


def feed(encoder: Encoder, *, on_the_left: bool = False, pools: list[list[int]] | None = None) -> Feed:
    """`rows` in padded rows, with token types where there are any."""
    batch = padded(rows(encoder), pools, on_the_left=on_the_left)
    if encoder.type_vocab_size == 1:
        batch["token_type_ids"][:] = 0
    return batch


def compared(length: int) -> slice:
    """The tokens of a row that are recorded."""
    return slice(None, None, 1 if length < 100 else 25)


def compute(name: str, device: str = "cpu", half: bool = False) -> dict[str, np.ndarray]:
    """What transformers' model of a variant makes of `rows`, on a device of PyTorch, in FP32 or all in FP16.

    `tokens` [tokens, H]: the last layer's `compared` tokens, of all rows; `mean` [rows, H]: of the first layer's; and,
    if it has one, `pooler` [rows, H].
    """
    import torch
    from transformers import AutoConfig, AutoModel

    encoder = read(VARIANTS[name])
    model = AutoModel.from_config(AutoConfig.for_model(**VARIANTS[name]), attn_implementation="eager").eval()
    with torch.no_grad():
        for weight, value in model.named_parameters():
            value.copy_(torch.from_numpy(drawn(weight, tuple(value.shape))))
    model = model.to(device, torch.float16 if half else torch.float32)
    tokens, means, poolers = [], [], []
    for index, ids in enumerate(rows(encoder)):
        types = feed(encoder)["token_type_ids"][index : index + 1, : len(ids)]
        given = {"token_type_ids": torch.from_numpy(types).long().to(device)} if encoder.types else {}
        with torch.inference_mode():
            output = model(input_ids=torch.tensor([ids], device=device), output_hidden_states=True, **given)
        _, first, *_, last = (state[0].float().cpu().numpy() for state in output.hidden_states)
        tokens.append(last[compared(len(ids))])
        means.append(first.mean(0))
        if getattr(output, "pooler_output", None) is not None:
            poolers.append(output.pooler_output[0].float().cpu().numpy())
    arrays = {"tokens": np.concatenate(tokens), "mean": np.stack(means)}
    return arrays | ({"pooler": np.stack(poolers)} if poolers else {})


def compute_logits(name: str) -> np.ndarray:
    """What transformers' classifier of one of `CLASSIFIERS` makes of `rows`: [rows, labels]."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    settings = CLASSIFIERS[name]
    encoder, config = read(settings), AutoConfig.for_model(**settings)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for weight, value in model.named_parameters():
            of_encoder = weight.removeprefix(f"{model.base_model_prefix}.")
            value.copy_(torch.from_numpy(drawn(of_encoder, tuple(value.shape))))
    found = []
    for index, ids in enumerate(rows(encoder)):
        types = feed(encoder)["token_type_ids"][index : index + 1, : len(ids)]
        given = {"token_type_ids": torch.from_numpy(types).long()} if encoder.types else {}
        with torch.inference_mode():
            found.append(model(input_ids=torch.tensor([ids]), **given).logits[0].numpy())
    return np.stack(found)


def compute_sparse(name: str) -> np.ndarray:
    """What SpladePooling makes of the logits that transformers' masked language model has for `rows`: [rows, words]."""
    import torch
    from transformers import AutoConfig, AutoModelForMaskedLM

    settings, (pooling, logs) = MASKED_LMS[name]
    encoder, config = read(settings), AutoConfig.for_model(**settings)
    model = AutoModelForMaskedLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for weight, value in model.named_parameters():
            own = weight.removeprefix(f"{model.base_model_prefix}.")
            if config.tie_word_embeddings:  # and two names of one bias
                own = re.sub(r"(lm_head|predictions)\.decoder\.bias", r"\1.bias", own)
                if value is model.get_input_embeddings().weight:
                    own = f"{encoder.words}.weight"
            value.copy_(torch.from_numpy(drawn(own, tuple(value.shape))))
    found = []
    for index, ids in enumerate(rows(encoder)):
        types = feed(encoder)["token_type_ids"][index : index + 1, : len(ids)]
        given = {"token_type_ids": torch.from_numpy(types).long()} if encoder.types else {}
        with torch.inference_mode():
            x = model(input_ids=torch.tensor([ids]), **given).logits[0].relu()
        for _ in range(logs):
            x = x.log1p()
        found.append((x.amax(0) if pooling == "max" else x.sum(0)).numpy())
    return np.stack(found)


def silent_feed(name: str) -> Feed:
    """`rows` whose second halves nobody attends to, unless the head of one of `TOKEN_VECTORS` has no such tokens."""
    encoder = read(VARIANTS[name])
    lengths = [len(ids) for ids in rows(encoder)]
    silent = [length // 2 if read_token_vectors(name).silent else 0 for length in lengths]
    pools = [[1] * (length - behind) + [0] * behind for length, behind in zip(lengths, silent, strict=True)]
    return feed(encoder, pools=pools)


def compute_token_vectors(name: str) -> np.ndarray:
    """What the head of one of `TOKEN_VECTORS` makes of `silent_feed`: the `compared` tokens, of all rows."""
    import torch
    from torch.nn import functional
    from transformers import AutoConfig, AutoModel

    def taken(name: str, *shape: int) -> torch.Tensor:
        return torch.from_numpy(drawn(name, shape))

    encoder, head, batch = read(VARIANTS[name]), read_token_vectors(name), silent_feed(name)
    # Not eager attention, which has a token that sees nobody attend to all.
    model = AutoModel.from_config(AutoConfig.for_model(**VARIANTS[name])).eval()
    with torch.no_grad():
        for weight, value in model.named_parameters():
            value.copy_(torch.from_numpy(drawn(weight, tuple(value.shape))))
    found = []
    for index, ids in enumerate(rows(encoder)):
        given = {"attention_mask": torch.from_numpy(batch["pooling_mask"][index : index + 1, : len(ids)]).long()}
        if encoder.types:
            given["token_type_ids"] = torch.from_numpy(batch["token_type_ids"][index : index + 1, : len(ids)]).long()
        with torch.inference_mode():
            x = model(input_ids=torch.tensor([ids]), **given).last_hidden_state[0]
        one, other = head.projections
        y = functional.linear(x, taken("1/linear.weight", one.size, one.size_in), taken("1/linear.bias", one.size))
        x = torch.sigmoid(y) + functional.linear(x, taken("1/residual.weight", one.size, one.size_in))
        y = functional.linear(x, taken("2/linear.weight", other.size, other.size_in))
        x = functional.normalize(functional.leaky_relu(y) + x, dim=-1)
        found.append(x[compared(len(ids))].numpy())
    return np.concatenate(found)


@cache
def load(name: str) -> dict[str, np.ndarray]:
    """The recorded arrays of `compute`."""
    with np.load(RECORDED) as file:
        return {key.rpartition("/")[2]: file[key] for key in file.files if key.rpartition("/")[0] == name}


def load_logits(name: str) -> np.ndarray:
    """The recorded logits of a classifier."""
    with np.load(RECORDED) as file:
        return file[f"{LOGITS}{name}"]


def load_sparse(name: str) -> np.ndarray:
    """The recorded sparse vectors of a masked language model."""
    with np.load(RECORDED) as file:
        return file[f"{SPARSE}{name}"]


def load_token_vectors(name: str) -> np.ndarray:
    """The recorded vectors of tokens."""
    with np.load(RECORDED) as file:
        return file[f"{TOKENS}{name}"]


def main() -> None:
    """Record the vectors of all variants."""
    arrays = {f"{name}/{key}": value for name in VARIANTS for key, value in compute(name).items()}
    arrays |= {f"{LOGITS}{name}": compute_logits(name) for name in CLASSIFIERS}
    arrays |= {f"{SPARSE}{name}": compute_sparse(name) for name in MASKED_LMS}
    arrays |= {f"{TOKENS}{name}": compute_token_vectors(name) for name in TOKEN_VECTORS}
    np.savez_compressed(RECORDED, **arrays)


if __name__ == "__main__":
    main()
