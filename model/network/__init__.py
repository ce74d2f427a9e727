"""The network as numbers: hyper-parameters, quantization, features, scores."""
