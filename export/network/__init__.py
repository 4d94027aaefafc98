"""The network as an ONNX graph, padding-free or padded, checked by running it."""
