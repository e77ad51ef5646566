"""What a claim's runs say: each expectation's effect with its 95 % interval over seeds, and the verdict from it."""

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, NotRequired

from omegaconf import OmegaConf
from scipy.stats import t as student
from typing_extensions import TypedDict

from tasks.annotations import fault_of
from tasks.config import ConfigError

HOLDS, FAILS, UNDECIDED = "holds", "does not hold here", "undecided"
CONFIDENCE = 0.95
MOST_SEEDS = 100  # beyond which no number of seeds is named

Measures = Mapping[str, Mapping[int, Mapping[str, float]]]  # by arm, seed and name


class Expectation(TypedDict):
    """One sentence about the measures, a mean over seeds: `arm - than` (or `arm / than`) lies above or below a bound.

    Without `than` it is about the arm's measure alone. The seeds of both arms are paired: they share the order of the
    images and, where both nets draw them in the same order, the initial weights.
    """

    measure: str
    arm: str
    than: NotRequired[str]
    form: NotRequired[Literal["difference", "ratio"]]
    above: NotRequired[float]
    below: NotRequired[float]


class Outcome(NamedTuple):
    """What came of an expectation: the mean effect over `seeds` seeds, its interval, and the verdict.

    `seeds_needed` is the number of seeds that would decide, if the effect and its deviation stay as they are.
    """

    effect: float | None
    low: float | None
    high: float | None
    seeds: int
    verdict: str
    seeds_needed: int | None


def decide(expectation: Expectation, measures: Measures) -> Outcome:
    """Compares the 95 % interval (Student's t) of an effect over seeds with the bound.

    Raises:
        ValueError: the expectation has no bound, or two.

    >>> runs = {"a": {0: {"error": 0.10}, 1: {"error": 0.11}}, "b": {0: {"error": 0.15}, 1: {"error": 0.16}}}
    >>> decide({"measure": "error", "arm": "b", "than": "a", "above": 0}, runs).verdict
    'holds'
    """
    bound, sign = bound_of(expectation)
    is_ratio = expectation.get("form") == "ratio"
    effects = effects_of(expectation, measures)
    if is_ratio:
        effects = [math.log(effect) if effect > 0 else math.nan for effect in effects]
        bound = math.log(bound) if bound > 0 else -math.inf
    if not effects or not all(map(math.isfinite, effects)):
        return Outcome(None, None, None, len(effects), UNDECIDED, None)
    middle, half = statistics.fmean(effects), half_width(effects)
    verdict, needed = UNDECIDED, None
    if half is not None and sign * (middle - bound) > half:
        verdict = HOLDS
    elif half is not None and sign * (bound - middle) >= half and not (half == 0 and middle == bound):
        verdict = UNDECIDED if has_bounds(expectation, measures) else FAILS
    else:
        needed = seeds_to_decide(effects, abs(middle - bound))
    back = math.exp if is_ratio else float
    if half is None:
        return Outcome(back(middle), None, None, len(effects), verdict, needed)
    return Outcome(back(middle), back(middle - half), back(middle + half), len(effects), verdict, needed)


def bound_of(expectation: Expectation) -> tuple[float, int]:
    """The bound, and 1 where the effect should lie above it, -1 where below.

    Raises:
        ValueError: there is not exactly one.
    """
    given = [name for name in ("above", "below") if name in expectation]
    if len(given) != 1:
        raise ValueError(f"task.expectations: {expectation['measure']} needs `above` or `below`")
    return (expectation["above"], 1) if given == ["above"] else (expectation["below"], -1)


def check_expectations(expectations: Any, arms: Collection[str], key: str = "expectations") -> None:
    """Refuses, before anything is trained, what no verdict could be made of; `key` is the option that names them.

    Raises:
        ConfigError: they are no expectations; one has no bound, or two, or is about an arm that is none.
    """
    expectations = OmegaConf.to_container(expectations) if OmegaConf.is_config(expectations) else expectations
    if (fault := fault_of(expectations, list[Expectation])) is not None:
        raise ConfigError(f"task.{key}", fault, expectations)
    for expectation in expectations:
        bound_of(expectation)
        for part in ("arm", "than"):
            if (arm := expectation.get(part)) is not None and arm not in arms:
                raise ConfigError(f"task.{key}.{part}", f"choose one of {', '.join(map(str, arms))}", arm)


def effects_of(expectation: Expectation, measures: Measures) -> list[float]:
    """The effect of each seed that all of its arms have.

    A measure whose `<name>_reached` is 0 is a lower bound: it counts where the effect should be above, for what is
    larger still would only speak for it. Other seeds with such a measure are left out.
    """
    name, is_ratio = expectation["measure"], expectation.get("form") == "ratio"
    exact = {arm: exact_values(seeds, name) for arm, seeds in measures.items()}
    bounds = {
        arm: {seed: values[name] for seed, values in seeds.items() if name in values} for arm, seeds in measures.items()
    }
    of_arm = (bounds if "above" in expectation else exact).get(expectation["arm"], {})
    if "than" not in expectation:
        return [value for _, value in sorted(of_arm.items())]
    other = exact.get(expectation["than"], {})
    pairs = [(of_arm[seed], other[seed]) for seed in sorted(of_arm.keys() & other.keys())]
    return [(a / b if b else math.nan) if is_ratio else a - b for a, b in pairs]


def has_bounds(expectation: Expectation, measures: Measures) -> bool:
    """Whether an effect is a lower bound, of a measure that was not reached, so that it may be larger."""
    name, seeds = expectation["measure"], measures.get(expectation["arm"], {})
    return "above" in expectation and len(exact_values(seeds, name)) < sum(name in values for values in seeds.values())


def exact_values(seeds: Mapping[int, Mapping[str, float]], name: str) -> dict[int, float]:
    """The values of a measure by seed, without those that are only bounds."""
    return {seed: values[name] for seed, values in seeds.items() if name in values and values.get(f"{name}_reached", 1)}


def half_width(effects: Sequence[float]) -> float | None:
    """Half of the interval's width; None for a single seed, which has none."""
    count = len(effects)
    if count < 2:
        return None
    return float(student.ppf((1 + CONFIDENCE) / 2, count - 1)) * statistics.stdev(effects) / math.sqrt(count)


def seeds_to_decide(effects: Sequence[float], distance: float) -> int | None:
    """The least number of seeds whose interval would not reach the bound; None if `MOST_SEEDS` are too few.

    >>> seeds_to_decide([0.0, 1.0, 2.0], 1.0), seeds_to_decide([0.0, 1.0, 2.0], 0.0)
    (7, None)
    """
    if len(effects) < 2:
        return None
    deviation = statistics.stdev(effects)
    for count in range(len(effects) + 1, MOST_SEEDS + 1):
        if student.ppf((1 + CONFIDENCE) / 2, count - 1) * deviation / math.sqrt(count) < distance:
            return count
    return None


def overall(verdicts: Iterable[str], required: Iterable[str] = ()) -> str:
    """A claim holds if all that it leads one to expect does, and does not hold if any of it does not.

    Runs of which something that they require does not hold decide nothing.

    >>> overall(["holds", "undecided"]), overall(["undecided", "does not hold here"])
    ('undecided', 'does not hold here')
    >>> overall(["holds"], required=["does not hold here"])
    'undecided'
    """
    if {*required} - {HOLDS}:
        return UNDECIDED
    found = list(verdicts)
    if FAILS in found:
        return FAILS
    return HOLDS if found and set(found) == {HOLDS} else UNDECIDED


def sentence(expectation: Expectation) -> str:
    """
    >>> sentence({"measure": "test_error", "arm": "plain_44", "than": "plain_20", "above": 0})
    'test_error: plain_44 - plain_20 > 0'
    >>> sentence({"measure": "steps", "arm": "tanh", "than": "relu", "form": "ratio", "above": 2})
    'steps: tanh / relu > 2'
    """
    bound, sign = bound_of(expectation)
    operator = "/" if expectation.get("form") == "ratio" else "-"
    left = f"{expectation['arm']} {operator} {expectation['than']}" if "than" in expectation else expectation["arm"]
    return f"{expectation['measure']}: {left} {'>' if sign > 0 else '<'} {bound:g}"


def outcome_row(expectation: Expectation, outcome: Outcome) -> dict[str, Any]:
    """A row of the table of expectations, plain values."""
    return {"expected": sentence(expectation), **outcome._asdict()}
