"""Verdicts of made-up records: intervals, bounds, ratios, and what was never reached."""

import itertools
import math
import random
import statistics

import pytest
from scipy import stats

from tasks.claims.verdict import FAILS, HOLDS, UNDECIDED, Expectation, decide, overall, seeds_to_decide


def records(**arms: list[float]) -> dict[str, dict[int, dict[str, float]]]:
    """Measures `m` by arm, of seeds 0, 1, ..."""
    return {arm: {seed: {"m": value} for seed, value in enumerate(values)} for arm, values in arms.items()}


@pytest.mark.parametrize(
    ("a", "b", "bound", "verdict"),
    [
        ([5.0, 5.1, 4.9], [1.0, 1.1, 0.9], 2.0, HOLDS),  # the differences are exactly 4
        ([5.0, 5.1, 4.9], [1.0, 1.1, 0.9], 4.5, FAILS),
        ([5.0, 6.0, 4.0], [1.0, 1.0, 1.0], 3.9, UNDECIDED),
        ([5.0], [1.0], 2.0, UNDECIDED),  # one seed has no interval
        ([], [1.0], 2.0, UNDECIDED),
        ([5.0, math.nan], [1.0, 1.0], 2.0, UNDECIDED),
    ],
)
def test_verdict_compares_the_interval_with_the_bound(
    a: list[float], b: list[float], bound: float, verdict: str
) -> None:
    above: Expectation = {"measure": "m", "arm": "a", "than": "b", "above": bound}
    assert decide(above, records(a=a, b=b)).verdict == verdict
    below: Expectation = {"measure": "m", "arm": "b", "than": "a", "below": -bound}
    assert decide(below, records(a=a, b=b)).verdict == verdict


@pytest.mark.parametrize("seed", range(20))
def test_interval_is_that_of_a_paired_t_test(seed: int) -> None:
    draw = random.Random(seed)
    a, b = ([draw.gauss(0, 1) for _ in range(3 + seed % 5)] for _ in range(2))
    outcome = decide({"measure": "m", "arm": "a", "than": "b", "above": 0}, records(a=a, b=b))
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(0.95)
    assert (outcome.low, outcome.high) == (pytest.approx(low), pytest.approx(high))
    assert (outcome.verdict == UNDECIDED) == (test.pvalue > 0.05)


def test_ratio_is_compared_by_logarithms() -> None:
    runs = records(a=[20.0, 80.0], b=[10.0, 20.0])
    outcome = decide({"measure": "m", "arm": "a", "than": "b", "form": "ratio", "above": 2}, runs)
    assert outcome.effect is not None
    assert outcome.low is not None
    assert outcome.high is not None
    assert outcome.effect == pytest.approx(math.sqrt(2 * 4))
    assert outcome.low * outcome.high == pytest.approx(2 * 4)


def test_only_seeds_that_both_arms_have_count() -> None:
    runs = {"a": {0: {"m": 3.0}, 1: {"m": 3.0}, 7: {"m": 99.0}}, "b": {0: {"m": 1.0}, 1: {"m": 1.0}, 2: {"m": 50.0}}}
    assert decide({"measure": "m", "arm": "a", "than": "b", "above": 1}, runs)[:4] == (2, 2, 2, 2)


def test_what_was_never_reached_is_a_lower_bound() -> None:
    late = {"m": 100.0, "m_reached": 0.0}
    early = {"m": 10.0, "m_reached": 1.0}
    runs = {"slow": {0: late, 1: late}, "fast": {0: early, 1: early}}
    assert decide({"measure": "m", "arm": "slow", "than": "fast", "form": "ratio", "above": 2}, runs).verdict == HOLDS
    assert decide({"measure": "m", "arm": "fast", "than": "slow", "form": "ratio", "below": 0.5}, runs).verdict == HOLDS
    for unknown in (
        {"measure": "m", "arm": "slow", "than": "fast", "form": "ratio", "below": 20},
        {"measure": "m", "arm": "slow", "than": "slow", "form": "ratio", "above": 0.5},
    ):
        assert decide(unknown, runs).verdict == UNDECIDED  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(60))
def test_no_verdict_rests_on_a_measure_that_may_be_larger(seed: int) -> None:
    """Whatever the measures that were not reached are in truth, it is not the other verdict."""
    draw = random.Random(seed)
    known: dict[str, dict[int, dict[str, float]]] = {"a": {}, "b": {}}
    truth: dict[str, dict[int, dict[str, float]]] = {"a": {}, "b": {}}
    levels = {"a": draw.choice([10.0, 20.0, 60.0]), "b": 20.0}
    for arm, run in itertools.product("ab", range(6)):
        value = levels[arm] + draw.random()
        known[arm][run] = truth[arm][run] = {"m": value}
        if draw.random() < 0.3:
            known[arm][run] = {"m": value, "m_reached": 0.0}
            truth[arm][run] = {"m": value * 100}
    for expectation in (
        {"measure": "m", "arm": "a", "than": "b", "above": 0},
        {"measure": "m", "arm": "a", "than": "b", "below": 0},
        {"measure": "m", "arm": "a", "than": "b", "form": "ratio", "above": 1},
        {"measure": "m", "arm": "a", "than": "b", "form": "ratio", "below": 1},
        {"measure": "m", "arm": "a", "above": 30},
        {"measure": "m", "arm": "a", "below": 30},
    ):
        before, after = (decide(expectation, runs).verdict for runs in (known, truth))  # type: ignore[arg-type]
        assert {before, after} != {HOLDS, FAILS}


def test_seed_that_speaks_against_a_claim_without_an_end_keeps_it_from_holding() -> None:
    reached = {seed: {"m": 100.0 + seed, "m_reached": 1.0} for seed in range(3)}
    never = {seed: {"m": 400.0, "m_reached": 0.0} for seed in range(3, 8)}
    usual = {seed: {"m": 200.0, "m_reached": 1.0} for seed in range(8)}
    runs = {"with": reached | never, "without": usual}
    smaller: Expectation = {"measure": "m", "arm": "with", "than": "without", "form": "ratio", "below": 1}
    larger: Expectation = {"measure": "m", "arm": "without", "than": "with", "form": "ratio", "above": 1}
    for outcome in decide(smaller, runs), decide(larger, runs):
        assert outcome.verdict == UNDECIDED
        assert outcome.seeds == 8


def test_a_lower_bound_never_speaks_against_a_claim() -> None:
    never = {0: {"m": 100.0, "m_reached": 0.0}, 1: {"m": 102.0, "m_reached": 0.0}}
    early = {0: {"m": 90.0, "m_reached": 1.0}, 1: {"m": 92.0, "m_reached": 1.0}}
    larger: Expectation = {"measure": "m", "arm": "a", "than": "b", "form": "ratio", "above": 2}
    assert decide(larger, {"a": never, "b": early}).verdict == UNDECIDED
    assert decide(larger, {"a": early, "b": early}).verdict == FAILS
    smaller: Expectation = {"measure": "m", "arm": "a", "below": 50}  # of which bounds are left out
    assert decide(smaller, {"a": early | {seed + 2: late for seed, late in never.items()}}).verdict == FAILS


def test_number_of_seeds_that_would_decide_does() -> None:
    effects = [0.5, 1.5, 1.0, 3.0]
    needed = seeds_to_decide(effects, statistics.fmean(effects))
    assert needed is not None
    for count, decides in ((needed - 1, False), (needed, True)):
        half = stats.t.ppf(0.975, count - 1) * statistics.stdev(effects) / math.sqrt(count)
        assert (half < statistics.fmean(effects)) == decides


def test_a_claim_is_as_good_as_its_worst_expectation() -> None:
    assert overall([HOLDS, HOLDS]) == HOLDS
    assert overall([HOLDS, UNDECIDED]) == UNDECIDED
    assert overall([HOLDS, UNDECIDED, FAILS]) == FAILS
    assert overall([]) == UNDECIDED


@pytest.mark.parametrize("bounds", [{}, {"above": 1, "below": 2}])
def test_expectation_has_one_bound(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above"):
        decide({"measure": "m", "arm": "a", **bounds}, records(a=[1.0, 2.0]))  # type: ignore[typeddict-item]


def test_claim_of_which_a_requirement_is_undecided_decides_nothing() -> None:
    assert overall([HOLDS], [UNDECIDED]) == overall([FAILS], [UNDECIDED]) == overall([HOLDS], [FAILS]) == UNDECIDED
    assert overall([HOLDS], [HOLDS]) == HOLDS
