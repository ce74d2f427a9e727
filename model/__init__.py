"""MobileNet V1: images in, logits and embeddings out; knows nothing of HTTP.

Top down: `sources` finds a checkpoint and `engines` run it; `checkpoints` is its form on disk;
`images` turns bytes into pixels; `network` is the arithmetic that no engine owns.
"""
