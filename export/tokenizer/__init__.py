"""A checkpoint's tokenizer, as the tokenizer step reads it."""
