"""Quantizes a float checkpoint after its training, on images of its user."""
