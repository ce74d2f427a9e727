"""Reads frozen TensorFlow graphs."""
