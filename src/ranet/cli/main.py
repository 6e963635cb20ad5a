"""The console script: ``ranet VERB [OVERRIDES]``."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

import ranet
from ranet.cli.ending import Stopped, ended_in_order
from ranet.cli.verbs import VERBS
from ranet.errors import unknown_name

_BROKEN_PIPE = 141  # as a shell says of a program that wrote to one


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb with its options (None: of the command line); without one, or with --help, print the list of verbs."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        raise SystemExit(0 if arguments else 2)
    if "--version" in arguments:
        print(f"ranet {ranet.__version__}")
        return
    verb = arguments[0]
    if verb not in VERBS:
        print(f"ranet: {unknown_name('verb', verb, VERBS)}", file=sys.stderr)
        raise SystemExit(2)
    try:
        with ended_in_order():
            from ranet.cli.command import run_verb  # with Hydra
            from ranet.support.console import accept_any_text
    except Stopped as stopped:
        stopped.leave()

    for stream in (sys.stdout, sys.stderr):
        accept_any_text(stream)
    # Otherwise Python searches all objects of PyTorch and the runtimes for cycles when it ends, which takes seconds.
    atexit.register(gc.freeze)
    spec = find_spec(f"ranet.cli.verbs.{verb}")
    assert spec is not None
    assert spec.origin is not None
    # The verb's own file takes the place of this script, so that Lightning can start it again for distributed runs.
    # Hydra wants the flag of a sweep before all options.
    sweep = [flag for flag in arguments[1:] if flag in ("-m", "--multirun")]
    sys.argv = [spec.origin, *sweep, *(argument for argument in arguments[1:] if argument not in sweep)]
    try:
        run_verb(verb, VERBS[verb])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as head, has closed the pipe; buffered output is dropped.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(_BROKEN_PIPE) from None


def _help() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.about}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: ranet VERB [OPTION=VALUE ...]",
            "",
            *lines,
            "",
            "ranet VERB --help shows a verb's options, ranet VERB --cfg job its whole configuration; ranet --version.",
        ]
    )
