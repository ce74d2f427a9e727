"""Reads TensorFlow Lite files."""
