"""MobileNet V1: its configuration, weights, pictures and engines. Knows tensors, never HTTP."""
