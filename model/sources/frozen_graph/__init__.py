"""Frozen TensorFlow graphs -> a checkpoint."""
