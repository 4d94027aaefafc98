"""From a BERT checkpoint to models that Triton serves."""
