"""Where checkpoints come from: directories, released files, the Hugging Face hub."""
