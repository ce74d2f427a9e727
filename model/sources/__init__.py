"""Loads checkpoints from directories, released files and the Hugging Face hub."""
