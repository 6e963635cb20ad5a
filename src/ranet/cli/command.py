"""Run a verb from the command line; user errors become one-line messages."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import ConfigCompositionException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from ranet.cli.ending import Stopped, ended_in_order, leave_ctrl_c_to_parent, when_stopped
from ranet.cli.help import verb_help
from ranet.cli.options.checks import CHECKS
from ranet.cli.outputs.own_folder import locked, register_stamp
from ranet.cli.sweep import NOTE, failure, failures, new_sweep, print_failures, stopped_sweep, this_job
from ranet.cli.verbs import Verb
from ranet.errors import UserError, unknown_name
from ranet.models.registry import list_families, list_networks, option_defaults
from ranet.support.files import WriteError, advice, is_unwritable
from ranet.support.hardware import is_first_process, limit_threads

_SWITCHES = ("resume", "channels_last", "evaluate", "collaboration", "test", "all_exits", "alternatives")
#: Hydra's own.
_FLAGS = (
    *("help", "hydra-help", "version", "cfg", "resolve", "package", "run", "multirun", "shell-completion"),
    *("config-path", "config-name", "config-dir", "experimental-rerun", "info"),
)
_TEXTS = (
    *("checkpoint", "scores", "test_scores", "policy", "score", "unit", "latency", "images", "output", "cache"),
    *("weights", "engine", "backend", "precision", "device"),
)

# A quoted text, or what lies between the brackets and commas of lists.
_WORD = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\[\]{},'"]+""")


def run_verb(name: str, verb: Verb) -> None:
    """Run a verb with the options of the command line: Hydra's overrides and multirun.

    The configuration is composed and the verb's options are checked before its work is imported, so that help and
    mistakes are answered at once.

    A ``UserError``, or a file that cannot be read or written, ends the command with one sentence on standard error and
    status 1; an override that does not fit the configuration ends it with status 2. Any other error is a fault of the
    program and keeps its traceback. In a sweep the other jobs continue, and the failed ones are listed at the end.
    Ctrl-C and SIGTERM end the command with a sentence and status 130 or 143.
    """

    def job(config: DictConfig) -> Any:
        alone = HydraConfig.get().mode is RunMode.RUN
        leave_ctrl_c_to_parent()
        try:
            with (
                when_stopped(lambda said: said if alone else f"{said or 'Stopped.'} It was in {this_job()}."),
                _notices(),
            ):
                _make_words(config, verb.several)
                _check(name)(config)
                folder = HydraConfig.get().runtime.output_dir if "run" in config else None
                with locked(config.output if name == "compare" else folder):
                    _say_what_loads(name, config.get("engine"))
                    run = import_module(f"ranet.cli.verbs.{name}").run
                    if "torch" in sys.modules:
                        limit_threads()
                    return run(config)
        except Exception as error:
            said = _said(error)
            if not alone:
                return failure(None if said is None else said[0])
            if said is None:
                raise
            _leave(*said)  # here, or Hydra would print more

    register_model_group()
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(verb_help(name, verb.usage))
        return
    register_stamp()
    # Without this Hydra prints errors of its own and exits before they come here.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    entry = hydra.main(version_base="1.3", config_path="pkg://ranet.conf", config_name=name)
    new_sweep()
    try:
        _check_flags(sys.argv[1:])
        if verb.positional is not None:
            sys.argv[1:] = folders_as_option(sys.argv[1:], verb.positional)
        sys.argv[1:] = map(quoted, sys.argv[1:])
        if {"-m", "--multirun"} & set(sys.argv):
            sys.argv.append(NOTE)
        with ended_in_order(), when_stopped(lambda said: said or stopped_sweep()):
            entry(job)()
    except Stopped as stopped:
        print_failures()
        stopped.leave()
    except Exception as error:
        said = _said(error)
        if said is None:
            raise
        _leave(*said)
    if failures():
        print_failures()
        _leave(f"{len(failures())} of the jobs failed; the others are done.", 1)


@cache
def register_model_group() -> None:
    """Give every preset and family its entry in the group ``model``, with all options of its family."""
    store = ConfigStore.instance()
    for name in [*list_networks(), *list_families()]:
        # Class count, size and channels of images follow the data unless they are set.
        node = {"name": name, **option_defaults(name), "num_classes": None, "image_size": None, "in_channels": None}
        store.store(group="model", name=name, node=node)


def folders_as_option(arguments: Sequence[str], option: str) -> list[str]:
    """Gather the folders among the arguments before the first flag into one option for Hydra.

    A word is a folder unless it is NAME=VALUE. NAME=VALUE is one if that folder exists, because Hydra's sweeps make
    such folders.

    Raises:
        UserError: if the option is given, too.

    Example:
        >>> folders_as_option(["runs/a", "runs/the second, longer", "unit=macs", "--cfg", "job"], "runs")
        ["runs=['runs/a','runs/the second, longer']", 'unit=macs', '--cfg', 'job']
    """
    words = list(takewhile(lambda word: not word.startswith("-"), arguments))
    folders = [word for word in words if "=" not in word or Path(word).is_dir()]
    if not folders:
        return list(arguments)
    options = [word for word in words if word not in folders]
    if any(word.startswith(f"{option}=") for word in options):
        raise UserError(f"Give the folders either alone or as {option}=[FOLDER,...], not both.")
    quoted = ",".join(QuotedString(folder, Quote.single).with_quotes() for folder in folders)
    return [f"{option}=[{quoted}]", *options, *arguments[len(words) :]]


def quoted(argument: str) -> str:
    """Quote the words of an option's value that are not ASCII; Hydra does not read them without quotes.

    Example:
        >>> quoted("images=été"), quoted("images=[été,new]"), quoted("images='été'"), quoted("images=new")
        ("images='été'", "images=['été',new]", "images='été'", 'images=new')
    """
    name, equals, value = argument.partition("=")
    if value.isascii() or "${" in value:
        return argument
    several = value.startswith(("[", "{", "'", '"')) or "," in value
    return name + equals + (_WORD.sub(lambda match: _quoted(match[0]), value) if several else _quoted(value))


def _quoted(word: str) -> str:
    return word if word.isascii() or word[0] in "'\"" else QuotedString(word.strip(), Quote.single).with_quotes()


def _said(error: Exception) -> tuple[str, int] | None:
    """Return the message and exit status of an error; None if it is a fault of the program."""
    match error:
        case UserError() | WriteError():
            return str(error), 1
        case OSError() if error.filename is not None:
            # Where a file is renamed, the second name is the one that the user knows.
            return f"{error.strerror}: {error.filename2 or error.filename}.", 1
        case OSError() if is_unwritable(error):
            return f"A file cannot be written ({error.strerror}); {advice(error)}.", 1
        case MissingMandatoryValue():
            return f"{error.full_key} is needed: add {error.full_key}=VALUE.", 2
        case ConfigCompositionException() | OverrideParseException() | InterpolationResolutionError():
            return _sentence(error), 2
    return None


def _check(verb: str) -> Callable[[DictConfig], object]:
    """Return the check of a verb's options, which does not import PyTorch."""
    if find_spec(f"ranet.cli.options.{verb}"):
        check: Callable[[DictConfig], object] = import_module(f"ranet.cli.options.{verb}").check_options
        return check
    return CHECKS.get(verb, lambda _: None)


def _say_what_loads(verb: str, engine: str | None) -> None:
    """Say what takes some seconds if PyTorch is not imported yet."""
    if is_first_process() and verb != "networks" and "torch" not in sys.modules:
        doing = f"opening {engine}" if engine else "loading PyTorch"
        print(f"ranet {verb}: {doing} ...", file=sys.stderr, flush=True)


class _Notices(logging.Handler):
    """Print each sentence once on the current standard error; a progress bar lets lines through above it."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()  # a command may read its data twice

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if sentence not in self._said:
            self._said.add(sentence)
            print(f"ranet: {sentence}", file=sys.stderr)


@contextmanager
def _notices() -> Iterator[None]:
    """Print what ranet logs, such as long waits and skipped files, on standard error."""
    handler, logger = _Notices(), logging.getLogger("ranet")
    # What Pillow warns of is a matter of the image files, not of this run.
    warnings.filterwarnings("ignore", module="PIL")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # or Hydra's handlers would say it again
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _check_flags(words: Sequence[str]) -> None:
    """Refuse --budget 50% with a clearer sentence than that of Hydra's parser."""
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and name not in _FLAGS:
            _leave(f"Options are written NAME=VALUE: {name}=VALUE and not {word}.", 2)


def _leave(message: str, status: int) -> NoReturn:
    if is_first_process():
        print(f"ranet: {message}", file=sys.stderr)
    raise SystemExit(status)


def _sentence(error: Exception) -> str:
    """Return Hydra's message about an override as one sentence, with near matches for an unknown name."""
    message = str(error)
    if match := re.search(r"Could not find '(\w+)/([^']+)'", message):
        group, name = match.groups()
        return str(unknown_name(group, name, re.findall(r"^\t(\S+)$", message, flags=re.MULTILINE)))
    if match := re.search(r"Could not override '([^']+)'", message):
        group, _, option = match.group(1).rpartition(".")
        return str(unknown_name(f"option of {group}" if group else "option", option, _options_beside(error)))
    if match := re.search(r"Ambiguous value for argument '([^=]+)=([^']*)'", message):
        name, values = match.groups()
        return f"{name}={values} are several values: write {name}=[{values}] for a list, or add -m for a run of each."
    first = message.strip().splitlines()[0]
    return f"The options cannot be used, which are written NAME=VALUE: {first}"


def _options_beside(error: Exception) -> list[str]:
    """Return the options of the node in which an override was not found."""
    cause = error.__cause__
    if not isinstance(cause, OmegaConfBaseException) or not isinstance(cause.parent_node, DictConfig):
        return []
    return [str(name) for name in cause.parent_node if not str(name).startswith("_")]


def _make_words(config: DictConfig, several: Sequence[str]) -> None:
    """Make file names and words str (for Hydra, the name 3 of a folder is a number), and refuse switches like "maybe".

    In Python every word counts as true.
    """
    for switch in _SWITCHES:
        if switch in config and not isinstance(config[switch], bool):
            raise UserError(f"{switch}={config[switch]} must be true or false.")
    for name in _TEXTS:
        value = config.get(name)
        if value is not None:
            config[name] = [str(one) for one in value] if name in several and OmegaConf.is_list(value) else str(value)
