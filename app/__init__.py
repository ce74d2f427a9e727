"""The service: HTTP in, batches down to `model`, answers out."""

__version__ = "0.1.0"
