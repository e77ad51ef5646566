"""What the packages agree upon: how a data set describes itself, and constructors that check their arguments."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import ConfigDict, Field, ValidationError, validate_call

Count = Annotated[int, Field(gt=0)]  # 1, 2, 3, ...
Index = Annotated[int, Field(ge=0)]  # 0, 1, 2, ...
Side = Annotated[int, Field(gt=0, le=1024)]  # pixels; no net here needs larger images
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
# A path on the machine of whoever runs the command: never taken out of a checkpoint.
LocalPath = Annotated[str, Field(min_length=1), "path"]

# True is not a number, 3.0 not a count, "3" not a number; a number is finite.
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False, extra="forbid")

Init = TypeVar("Init", bound=Callable[..., None])


class SampleSpec(NamedTuple):
    """What a net has to know of a data set: images (N, in_channels, image_size, image_size) of num_classes classes."""

    in_channels: int = 1
    image_size: int = 28
    num_classes: int = 10


class ArgumentError(ValueError):
    """An argument of a constructor that is unknown, or of a wrong type or range.

    Attributes:
        name: of the argument; of an item in a list, `betas.1`.
        value: that was given.
        reason: what is allowed, to be read behind the name: "should be greater than 0".
    """

    def __init__(self, name: str, value: Any, reason: str) -> None:
        super().__init__(f"{name} {reason}, got {value!r}")
        self.name = name
        self.value = value
        self.reason = reason


class DivergenceError(ValueError):
    """Training can go on no longer: a loss, a weight or a sample is infinite or not a number.

    Attributes:
        what: the loss, or the net whose weights or samples these are.
        step: the training step at which it was seen.
    """

    status = "diverged"  # of the run, in its results

    def __init__(self, what: str, step: int) -> None:
        super().__init__(f"diverged: {what} is not finite at step {step}; a smaller learning rate may help")
        self.what = what
        self.step = step


class CheckedArguments:
    """A base of classes whose constructors check their arguments by their annotations, strictly, and remember them.

    An annotation says the type and the range (`Count`, `Share`, ...), so that no constructor has to; what depends on
    several arguments is still its own to check. `arguments` are those that an object was made from.

    >>> class Square(CheckedArguments):
    ...     def __init__(self, side: Count = 1) -> None:
    ...         pass
    >>> Square(side=3).arguments
    {'side': 3}
    >>> Square(side=True)
    Traceback (most recent call last):
    datamodules.contract.ArgumentError: side should be a valid integer, got True
    """

    arguments: dict[str, Any]

    def plain_arguments(self) -> dict[str, Any]:
        """Those of the arguments that a checkpoint can hold: numbers, text, None and lists of these."""
        lists = {name: list(value) if is_list(value) else value for name, value in self.arguments.items()}
        return {name: value for name, value in lists.items() if is_plain(value)}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]


def checked(init: Init) -> Init:
    """The same `__init__`, behind a check of its arguments that raises `ArgumentError`."""
    check = validate_call(config=STRICT)(init)
    signature = inspect.signature(init)
    variable = [name for name, p in signature.parameters.items() if p.kind == p.VAR_KEYWORD]

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if "arguments" not in self.__dict__:  # the outermost class, whose constructor was called
            given = dict(signature.bind(self, *args, **kwargs).arguments)
            given |= given.pop(variable[0], {}) if variable else {}
            self.__dict__["arguments"] = dict(list(given.items())[1:])
        try:
            check(self, *args, **kwargs)
        except ValidationError as error:
            raise argument_error(error, [*signature.parameters]) from None

    return __init__  # type: ignore[return-value]


def argument_error(error: ValidationError, names: Sequence[str] = ()) -> ArgumentError:
    """The first fault that pydantic found, as an error of ours; `names` are those of positional arguments."""
    fault = error.errors(include_url=False)[0]
    unknown = fault["type"] in ("unexpected_keyword_argument", "extra_forbidden")
    reason = "is not an argument" if unknown else fault["msg"].removeprefix("Input ")
    first, *inner = fault["loc"]
    if isinstance(first, int) and first < len(names):
        first = names[first]
    return ArgumentError(".".join(map(str, (first, *inner))), fault["input"], reason)


def is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def is_plain(value: Any) -> bool:
    """Whether a value is a number, a text, None or a list of these.

    >>> is_plain([0.9, None]), is_plain(print)
    (True, False)
    """
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
