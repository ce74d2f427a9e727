"""A checkpoint on disk, in Hugging Face's layout."""
