"""TensorFlow Lite files -> a checkpoint."""
