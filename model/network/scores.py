"""Turns logits into scores and the best classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


Activation = Literal["softmax", "sigmoid", "none"]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities over the last axis; shape and dtype stay."""
    # The ufuncs' own reductions: those of arrays go through Python.
    scores: NDArray[np.float32] = np.exp(logits - np.maximum.reduce(logits, -1, keepdims=True))
    scores /= np.add.reduce(scores, -1, keepdims=True)
    return scores


def activate(logits: NDArray[np.float32], activation: Activation) -> NDArray[np.float32]:
    """Scores by the named function; shape and dtype stay."""
    match activation:
        case "softmax":
            return softmax(logits)
        case "sigmoid":
            scores: NDArray[np.float32] = np.exp(-np.logaddexp(0, -logits))
            return scores
        case "none":
            return logits


def top_k(scores: NDArray[np.float32], k: int, min_score: float = 0.0) -> list[tuple[int, float]]:
    """The best classes of one image, as (class_id, score), best first, ties by class id.

    Args:
        scores: (classes,).
        k: number of classes, at most.
        min_score: leaves out classes that score less.
    """
    candidates = np.arange(len(scores))
    if k < len(scores):  # sorting all of them costs as much as the softmax
        ranked = scores.copy()
        ranked.partition(-k)
        (candidates,) = (scores >= ranked[-k]).nonzero()
    order = candidates[(-scores[candidates]).argsort(kind="stable")[:k]]
    best = zip(order.tolist(), scores[order].tolist(), strict=True)
    return [(class_id, score) for class_id, score in best if score >= min_score]
