"""The core: images in, answers out; engines and threads, and no web framework."""
