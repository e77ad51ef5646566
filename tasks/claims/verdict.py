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
    found = effects_of(expectation, measures)
    effects = [effect.value for effect in found if not effect.is_open]
    if is_ratio:
        effects = [math.log(effect) if effect > 0 else math.nan for effect in effects]
        bound = math.log(bound) if bound > 0 else -math.inf
    if not effects or not all(map(math.isfinite, effects)):
        return Outcome(None, None, None, len(effects), UNDECIDED, None)
    middle, half = statistics.fmean(effects), half_width(effects)
    may_rise = any(effect.may_be_larger if sign > 0 else effect.may_be_smaller for effect in found)
    may_fall = any(effect.may_be_smaller if sign > 0 else effect.may_be_larger for effect in found)
    verdict, needed = UNDECIDED, None
    if half is not None and sign * (middle - bound) > half:
        verdict = UNDECIDED if may_fall else HOLDS
    elif half is not None and sign * (bound - middle) >= half and not (half == 0 and middle == bound):
        verdict = UNDECIDED if may_rise else FAILS
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
    if (fault := fault_of(expectations, list[Expectation], may_refer=True)) is not None:
        raise ConfigError(f"task.{key}", fault, expectations)
    for expectation in expectations:
        bound_of(expectation)
        for part in ("arm", "than"):
            if (arm := expectation.get(part)) is not None and arm not in arms:
                raise ConfigError(f"task.{key}.{part}", f"choose one of {', '.join(map(str, arms))}", arm)


class Effect(NamedTuple):
    """What a seed says. A measure that an arm did not reach is larger than what it counts as, none knows by how much.

    Such an effect counts with what is known of it, and keeps from a verdict that its true value might change.
    """

    value: float
    may_be_larger: bool = False
    may_be_smaller: bool = False

    @property
    def is_open(self) -> bool:
        return self.may_be_larger and self.may_be_smaller


def effects_of(expectation: Expectation, measures: Measures) -> list[Effect]:
    """The effect of each seed that all of its arms have; a measure was not reached if its `<name>_reached` is 0."""
    name, is_ratio = expectation["measure"], expectation.get("form") == "ratio"
    arms = [
        {
            seed: (values[name], not values.get(f"{name}_reached", 1))
            for seed, values in measures.get(arm, {}).items()
            if name in values
        }
        for arm in (expectation["arm"], expectation.get("than"))
        if arm is not None
    ]
    effects = []
    for seed in sorted(set.intersection(*map(set, arms))):
        (value, is_bound), *other = (arm[seed] for arm in arms)
        for than, is_bound_of_other in other:
            ratio = value / than if than else math.nan
            effects.append(Effect(ratio if is_ratio else value - than, is_bound, is_bound_of_other))
        if not other:
            effects.append(Effect(value, is_bound))
    return effects


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
