"""The console script: ``ranet VERB [OVERRIDES]``."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

from ranet.cli.ending import Stopped, ended_in_order
from ranet.errors import unknown_name

VERBS = {
    "train": "train a network and draw its curves",
    "calibrate": "solve the exit policy that meets a budget",
    "evaluate": "measure a trained network, or a policy, on test images",
    "export": "write a network and its policies as ONNX graphs for serving",
    "predict": "answer images, and stop early",
    "bench": "measure whether early exit pays, in milliseconds",
    "compare": "compare finished runs: mean and spread over seeds",
    "networks": "list the networks",
    "costs": "count what each exit of a network costs",
}


def main() -> None:
    """Run the verb; without one, or with --help, say which there are."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        raise SystemExit(0 if arguments else 2)
    verb = arguments[0]
    if verb not in VERBS:
        print(f"ranet: {unknown_name('verb', verb, VERBS)}", file=sys.stderr)
        raise SystemExit(2)
    module = f"ranet.cli.{verb}"
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    # The verb's own file takes the place of this script, so that Lightning can start it again for distributed runs.
    # Hydra wants the flag of a sweep before all options.
    sweep = [flag for flag in arguments[1:] if flag in ("-m", "--multirun")]
    sys.argv = [spec.origin, *sweep, *(argument for argument in arguments[1:] if argument not in sweep)]
    try:
        with ended_in_order():  # which also takes time
            command = import_module(module)
    except Stopped as stop:
        print(f"ranet: {stop}", file=sys.stderr)
        raise SystemExit(stop.status) from None
    command.main()


def _help() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {about}" for verb, about in VERBS.items()]
    return "\n".join(
        [
            "usage: ranet VERB [OPTION=VALUE ...]",
            "",
            *lines,
            "",
            "ranet VERB --help shows a verb's options, ranet VERB --cfg job its whole configuration.",
        ]
    )
