"""The modules of the tokenizer step, which lie beside its model.py and are found as its process finds them."""

import sys

from export.repository.configs import TEMPLATE

sys.path.append(str(TEMPLATE / "bert_tokenizer" / "1"))

import long_turns  # noqa: E402
import request_parameters  # noqa: E402
import text_pieces  # noqa: E402
import token_rows  # noqa: E402
import tokenizer_file  # noqa: E402

__all__ = ["long_turns", "request_parameters", "text_pieces", "token_rows", "tokenizer_file"]
