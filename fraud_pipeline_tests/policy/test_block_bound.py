"""The bound of the precision of blocks holds over all thresholds together, also for customers with many rows."""

import numpy as np
import pytest

from fraud_pipeline.policy.block_bound import BlockEvidence, lower_bound, prove_blocks, rows_needed


def test_it_is_the_exact_binomial_bound_for_independent_rows() -> None:
    # Clopper and Pearson: all 59 right are the fewest that prove .95 with 95 % confidence.
    assert lower_bound(59, 59, owners=59, alpha=0.05) > 0.95 > lower_bound(58, 58, owners=58, alpha=0.05)
    assert rows_needed(0.95, looked_at=1) == 59
    assert lower_bound(0, 10, owners=10, alpha=0.05) == lower_bound(0, 0, owners=0, alpha=0.05) == 0


@pytest.mark.parametrize("rows_each", [1, 6])
def test_a_precision_just_below_the_floor_is_seldom_called_proven(rows_each: int) -> None:
    """At most 1 in 20 samples; with whole customers right or wrong together, too."""
    generator, floor, wrong = np.random.default_rng(0), 0.85, 0
    sizes = (40, 60, 90, 140, 200)
    for _ in range(400):
        right = np.repeat(generator.random(200) < floor - 1e-9, rows_each).astype(np.float64)
        customers = np.repeat(np.arange(200), rows_each)
        candidates = [(1 - size / 1_000, customers < size) for size in sizes]
        wrong += prove_blocks(candidates, right, customers, floor=floor).threshold is not None
    assert wrong <= 0.05 * 400


def test_the_lowest_proven_threshold_is_taken() -> None:
    labels = np.repeat([1.0, 0.0], [100, 100])
    sizes = {0.9: 60, 0.8: 100, 0.7: 150}
    candidates = [(threshold, np.arange(200) < size) for threshold, size in sizes.items()]
    evidence = prove_blocks(candidates, labels, np.arange(200), floor=0.85)
    assert (evidence.threshold, evidence.rows, evidence.frauds, evidence.looked_at) == (0.8, 100, 100, 3)
    assert BlockEvidence.from_dict(evidence.to_dict()) == evidence


def test_it_says_why_nothing_is_blocked() -> None:
    some = prove_blocks([(0.5, np.ones(40, bool))], np.repeat([1.0, 0.0], [30, 10]), np.arange(40), floor=0.85)
    assert str(some) == (
        "blocks nothing, because no threshold is proven to be right 85% of the time with 95% confidence over the 1 "
        "thresholds looked at: at best 30 of 40 would-be blocks (40 independent customers) were right, a lower bound "
        "of 0.61"
    )
    none = prove_blocks([], np.zeros(3), np.arange(3), floor=0.85)
    assert str(none).startswith("blocks nothing, because")
