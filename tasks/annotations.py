"""What annotations say of arguments: whether a value fits, what a class can be given, which values are paths."""

import difflib
import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from datamodules.contract import STRICT


class Parameters(NamedTuple):
    """What a class or function can be given: annotations by name, the names that it needs, and whether it takes any."""

    annotations: dict[str, Any]
    required: tuple[str, ...]
    takes_any: bool


def fault_of(value: Any, annotation: Any, may_refer: bool = False) -> str | None:
    """What is wrong with a plain value, None where it fits; a list is taken for a tuple where one is wanted.

    With `may_refer` it is of a config, where a text that begins with ${ stands for another value.

    >>> fault_of("fast", float)
    'should be a valid number'
    >>> fault_of(True, int), fault_of([0.9, 0.999], tuple[float, float])
    ('should be a valid integer', None)
    """
    adapter = adapter_of(annotation)
    if adapter is None or (may_refer and isinstance(value, str) and value.startswith("${")):
        return None
    faults: list[str] = []
    for form in (value, tuple(value)) if isinstance(value, list) else (value,):
        try:
            adapter.validate_python(form)
            return None
        except ValidationError as error:
            faults = faults or [fault["msg"].removeprefix("Input should be ") for fault in error.errors()]
    texts = [text for text in dict.fromkeys(faults) if not text.startswith("an instance of Tensor")]
    texts = [text for text in texts if "is-instance" not in text] or faults
    if texts[0].startswith("String should match pattern '^[A-Za-z0-9]"):
        return "should have letters, digits and . _ - only, and begin with a letter or digit"
    return texts[0] if texts[0].startswith(("String", "List", "Tuple")) else f"should be {' or '.join(texts[:4])}"


def adapter_of(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return cached_adapter(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return make_adapter(annotation)


def make_adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """None where pydantic cannot use the annotation, which is then left unchecked."""
    if annotation in (Any, inspect.Parameter.empty):
        return None
    try:
        return TypeAdapter(annotation, config=STRICT)
    except PydanticUserError as error:
        if isinstance(error, PydanticSchemaGenerationError):
            return None
        return TypeAdapter(annotation)  # a TypedDict brings its own settings


cached_adapter = functools.lru_cache(maxsize=None)(make_adapter)


def members(annotation: Any) -> list[Any]:
    """The classes of a union, each without what is annotated to it.

    >>> members(Annotated[int, "metres"] | None)
    [<class 'int'>, <class 'NoneType'>]
    """
    if typing.get_origin(annotation) is Annotated:
        return members(typing.get_args(annotation)[0])
    if isinstance(annotation, type(int | str)) or typing.get_origin(annotation) is typing.Union:
        return [part for option in typing.get_args(annotation) for part in members(option)]
    return [typing.get_origin(annotation) or annotation]


@functools.cache
def parameters_of(target: Callable[..., Any]) -> Parameters:
    """The arguments of a class, of a paper's form of it (`LeNet5.published`), or of a function."""
    cls = target.__self__ if inspect.ismethod(target) else target
    function: Any = cls.__init__ if inspect.isclass(cls) else cls
    signature = inspect.signature(function)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        hints = {}
    annotations: dict[str, Any] = {}
    required: list[str] = []
    takes_any = False
    for index, (name, parameter) in enumerate(signature.parameters.items()):
        if index == 0 and inspect.isclass(cls):
            continue  # self
        if parameter.kind == parameter.VAR_KEYWORD:
            unpacked = typing.get_args(hints.get(name, Any))
            takes_any = not unpacked
            annotations |= typing.get_type_hints(unpacked[0], include_extras=True) if unpacked else {}
        elif parameter.kind != parameter.VAR_POSITIONAL:
            annotations[name] = hints.get(name, Any)
            required += [name] if parameter.default is parameter.empty else []
    return Parameters(annotations, tuple(required), takes_any)


def is_local_path(annotation: Any) -> bool:
    """Whether a value of that annotation is a path on the machine of whoever runs the command.

    >>> from datamodules.contract import LocalPath
    >>> is_local_path(LocalPath | None), is_local_path(str)
    (True, False)
    """
    return "path" in getattr(annotation, "__metadata__", ()) or any(map(is_local_path, typing.get_args(annotation)))


def suggestion(name: object, known: Iterable[str]) -> str:
    """Names like a key, which may be of any type.

    >>> suggestion("max_epoch", ["max_epochs", "max_steps"])
    ': did you mean max_epochs?'
    >>> suggestion("tasg", ["task", "tags", "trainer"])
    ': did you mean tags or task?'
    >>> suggestion(5, ["seed", "task"])
    ': choose one of seed, task'
    """
    names, given = [str(other) for other in known], str(name)
    if not names:
        return ""
    close = difflib.get_close_matches(given, names, n=3)
    alike = [difflib.SequenceMatcher(None, given, other).ratio() for other in close]
    best = sorted(other for other, ratio in zip(close, alike, strict=True) if ratio == max(alike))
    return f": did you mean {' or '.join(best)}?" if best else f": choose one of {', '.join(sorted(names))}"
