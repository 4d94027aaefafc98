"""What Google's BERT calls the arrays of transformers' BertModel. For Python 3.7 too."""


def google_name(name):
    """The name that Google's BERT has for an array of transformers' BertModel, and whether it is transposed."""
    transposed = False
    if name.endswith("_embeddings.weight"):
        name = name[: -len(".weight")]
    elif name.endswith("LayerNorm.weight"):
        name = name[: -len("weight")] + "gamma"
    elif name.endswith("LayerNorm.bias"):
        name = name[: -len("bias")] + "beta"
    elif name.endswith(".weight"):
        name = name[: -len("weight")] + "kernel"
        transposed = True
    return "bert/" + name.replace("encoder.layer.", "encoder/layer_").replace(".", "/"), transposed
