from __future__ import annotations

import numpy as np
import pytest

from model.network.scores import softmax, top_k


@pytest.mark.parametrize("shape", [(1001,), (3, 1001), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("spread", [0.1, 10.0, 1000.0])
def test_softmax_is_that_of_the_textbook(shape: tuple[int, ...], spread: float) -> None:
    logits = np.random.default_rng(0).normal(0, spread, shape).astype(np.float32)
    scores = softmax(logits)
    exact = np.exp(logits.astype(np.longdouble))
    expected = exact / exact.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-7)
    assert scores.dtype == np.float32


@pytest.mark.parametrize("logit", [1e38, 1e4, 0.0, -1e4, -1e38])
def test_softmax_of_huge_equal_logits_is_uniform(logit: float) -> None:
    np.testing.assert_allclose(softmax(np.full(4, logit, np.float32)), 0.25)


def test_softmax_of_one_huge_logit_is_certain() -> None:
    assert softmax(np.array([-1e38, 1e38, 0], np.float32)).tolist() == [0, 1, 0]


def test_softmax_leaves_its_input_alone() -> None:
    logits = np.array([1, 2, 3], np.float32)
    softmax(logits)
    assert logits.tolist() == [1, 2, 3]


def test_the_best_classes_come_first() -> None:
    scores = np.array([0.125, 0.5, 0.0, 0.375], np.float32)
    assert top_k(scores, 3) == [(1, 0.5), (3, 0.375), (0, 0.125)]


def test_equal_scores_come_by_class_id() -> None:
    scores = np.full(1001, 0.25, np.float32)
    scores[700] = 0.5
    assert [class_id for class_id, _ in top_k(scores, 4)] == [700, 0, 1, 2]


def test_more_classes_than_there_are_is_all_of_them() -> None:
    assert len(top_k(np.array([0.25, 0.75], np.float32), 5)) == 2


def test_scores_below_the_least_are_left_out() -> None:
    scores = np.array([0.125, 0.5, 0.25], np.float32)
    assert top_k(scores, 3, min_score=0.25) == [(1, 0.5), (2, 0.25)]
    assert top_k(scores, 3, min_score=0.75) == []


def test_the_best_classes_are_plain_numbers() -> None:
    [(class_id, score)] = top_k(np.array([1], np.float32), 1)
    assert (type(class_id), type(score)) == (int, float)
