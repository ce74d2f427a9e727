"""The network without an engine: hyper-parameters, quantization, features, scores."""
