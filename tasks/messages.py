"""What a user reads when something went wrong: one line for a mistake, a traceback for a fault of the program."""

import difflib
import dis
import re
import shlex
import sys
import sysconfig
import traceback
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from tasks.overrides import CONF
from tasks.tables import one_line

ROOT = Path(__file__).parents[1]
PACKAGES = ("classic_cnn", "gan", "rnn", "datamodules", "tasks")
MISTAKES = (HydraException, OmegaConfBaseException, ValueError, OSError)
BY_NAME = ("MisconfigurationException", "UncompletedJobError", "FailedJobError")  # Lightning's, and submitit's two
INSTALLED = "classic-nets"  # the console command, where the package is installed
PLUGINS = {
    "hydra/launcher=joblib": "hydra-joblib-launcher",
    "hydra/launcher=submitit_local": "hydra-submitit-launcher",
    "hydra/launcher=submitit_slurm": "hydra-submitit-launcher",
    "hydra/sweeper=optuna": "hydra-optuna-sweeper",
}


def report(error: BaseException, show_traceback: bool = False) -> int:
    """Prints what was wrong on stderr; returns the status: 2 for a user's mistake, 1 for a fault of the program."""
    if show_traceback or not is_mistake(error):
        traceback.print_exception(error)
        return 1
    try:
        line = message_of(error)
    except Exception:  # a fault of this module must not hide the error
        line = " ".join(str(error).split())
    print(f"Error: {one_line(line)}", file=sys.stderr)
    return 2


def is_mistake(error: BaseException) -> bool:
    """Whether an error is a user's mistake, and not a fault of the program, or of a class that a user has written."""
    if isinstance(error, InstantiationException) and is_fault(first_cause(error)):
        return False
    if type(error) is ValueError and is_fault(error):
        return False
    return isinstance(error, MISTAKES) or type(error).__name__ in BY_NAME


def is_fault(error: BaseException) -> bool:
    """Whether Python raised an error in a file of this project or of its user: a wrong name, say.

    No statement there raised it to say what is wrong, as `raise ValueError("...")` does.
    """
    if isinstance(error, AttributeError):  # nn.Module has a statement for it
        return True
    if (place := error.__traceback__) is None:
        return False
    while place.tb_next is not None:
        place = place.tb_next
    code = place.tb_frame.f_code
    return is_own(code.co_filename) and dis.opname[code.co_code[place.tb_lasti]] != "RAISE_VARARGS"


def first_cause(error: BaseException) -> BaseException:
    """The error that an error was made from, or that one from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def is_own(file: str) -> bool:
    """Whether a file of Python is of this project, or its user's, and of no library."""
    path = Path(file)
    if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES:
        return True
    libraries = (sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    return path.is_absolute() and not any(path.is_relative_to(library) for library in libraries)


def message_of(error: BaseException) -> str:
    """The message of an error, or of the cause that says more, in one line of plain text."""
    if "Config group override must be a string or a list" in str(error):
        typed = shlex.join(text.removeprefix("++") for text in sys.argv[1:])  # by run.py
        if any(text.startswith("=") for text in sys.argv[1:]):
            return f"{typed}: an option has no key, write KEY=VALUE"
        return f"{typed}: what is chosen of a group is the name of an option, and ~GROUP.NAME leaves one out"
    if several := re.match(r"Ambiguous value for argument '\+*([^']*)'", str(error)):
        return f"{several[1]}: several values are a sweep: add -m or --multirun; a list is written KEY=[A,B]"
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if isinstance(error, MissingConfigException):
        return missing_option(error)
    if isinstance(error, OverrideParseException):
        return unreadable(str(error.override))
    if isinstance(error, ConfigCompositionException):
        keys = [cause for cause in causes if isinstance(cause, ConfigKeyError)]
        return unknown_key(error, keys[-1] if keys else None)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: has no value"
    if isinstance(error, InterpolationResolutionError):
        return f"{error.full_key}: {plain(causes[-1])}"
    if isinstance(error, InstantiationException):
        key = re.search(r"full_key: (\S+)", str(error))
        return f"{key[1]}: {plain(causes[-1])}" if key else plain(causes[-1])
    return plain(error)


def plain(error: BaseException) -> str:
    """The text of an error without line breaks; of one of the operating system with its path."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    if type(error).__name__ in BY_NAME[1:] and (place := re.search(r"\S+/\.submitit/\d\w*", text)):
        return f"a job of the sweep ended without a result; what it said is in {place[0]}"
    if "No supported gpu backend found" in text:
        return "no GPU was found on this machine: use trainer.accelerator=cpu, or auto to use what there is"
    return text or type(error).__name__


def missing_option(error: MissingConfigException) -> str:
    """Names the options of a group, and the package that brings a plugin which is not installed."""
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if package := PLUGINS.get(f"{group}={option}"):
        return f"{group}={option} needs a plugin: pip install {package}"
    if not group:
        return plain(error)
    folder = CONF / group
    options = sorted(path.stem for path in folder.glob("*.yaml")) if folder.is_dir() else sorted(error.options or ())
    outer, _, inner = group.partition("/")  # model/optimizer is a group, published/ a folder of the group model
    is_folder = f"{outer}={inner}/{option}" in [text.lstrip("+") for text in sys.argv]
    typed = f"{outer}={inner}/" if is_folder else f"{group}="
    inside = {  # of folders of a group, such as published/ and claim/; others of model/ are groups themselves
        path.relative_to(CONF / outer).with_suffix("").as_posix()
        for path in (CONF / outer).glob("*/*.yaml")
        if outer == "experiment" or path.parent.name == "published"
    }
    if is_folder:
        close = difflib.get_close_matches(f"{inner}/{option}", inside, n=1)
    else:
        named = [] if inner else sorted(name for name in inside if name.rpartition("/")[2] == option)
        close = named or difflib.get_close_matches(option, options, n=1)
    hint = f"did you mean {outer if is_folder else group}={close[0]}? " if close else ""
    folders = [] if inner and folder.is_dir() else sorted({f"{name.partition('/')[0]}/..." for name in inside})
    return f"{typed}{option} is not an option: {hint}choose one of {', '.join([*options, *folders]) or 'none'}"


def unreadable(override: str) -> str:
    """How to write an argument that Hydra's grammar cannot read."""
    override = override.removeprefix("++")  # by run.py
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: not of the form KEY=VALUE"
    if not key.strip("+~"):
        return f"{override}: has no key, write KEY=VALUE"
    if re.fullmatch(r"\[[^\[\]'\"]*=[^\[\]'\"]*\]", value):  # a list of overrides
        items = ",".join(f"'{item.strip()}'" for item in value[1:-1].split(","))
        return f'{override}: the items have to be quoted, for Hydra and for the shell: "{key}=[{items}]"'
    if value.endswith(","):
        return f"{override}: a list has no blank behind its comma; several values are a sweep: -m {key}={value}..."
    typed = f"{key}={quoted(value)}"
    in_shell = shlex.quote(typed) if re.search(r'[$`"\\!]', typed) else f'"{typed}"'
    return f"{override}: the value has to be quoted, for Hydra and for the shell: {in_shell}"


def unknown_key(error: ConfigCompositionException, cause: ConfigKeyError | None) -> str:
    """Names the nearest key, or the options that have the key."""
    text = plain(error)
    found = re.match(r"(?:Could not override|Could not delete|Could not append)[^']*'([^']*)'", text)
    if found is None:
        return plain(cause or error.__cause__ or error)
    name = found[1]
    if not name.strip("+~"):
        return f"{shlex.join(sys.argv[1:])}: an option has no key, write KEY=VALUE"
    if cause is not None and cause.full_key:
        name = str(cause.full_key)
    if text.startswith("Could not append"):
        return f"{name} exists already: leave out the +"
    return f"{name} is not in this config: nothing to change"


def command(*overrides: str, multirun: bool = False) -> str:
    """The command that gives these overrides to run.py, quoted for the shell; with `multirun` that of a sweep.

    >>> command("ckpt_path=my runs/last.ckpt")
    "python run.py 'ckpt_path=my runs/last.ckpt'"
    """
    program = INSTALLED if Path(sys.argv[0]).name == INSTALLED else "python run.py"
    return f"{program} {'-m ' if multirun else ''}{shlex.join(for_hydra(text) for text in overrides)}"


def for_hydra(override: str) -> str:
    """An override that Hydra's grammar reads, its value quoted where it has to be."""
    key, _, value = override.partition("=")
    try:
        [read] = OverridesParser.create().parse_overrides([override])
        if str(read.value()) == value or not isinstance(read.value(), str):
            return override
    except Exception:
        pass
    return f"{key}={quoted(value)}"


def quoted(value: str) -> str:
    """A text as Hydra's grammar reads it whatever is in it."""
    return QuotedString(text=value, quote=Quote.single).with_quotes()
