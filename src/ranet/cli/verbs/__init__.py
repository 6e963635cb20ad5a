"""The verbs of the command line, and what must be known of each before its work is imported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """One verb.

    Its options are in ``conf/NAME.yaml``; ``check_options`` in ``ranet.cli.options.NAME``, or else
    ``ranet.cli.options.checks``, refuses wrong ones without PyTorch; ``run`` in ``ranet.cli.verbs.NAME`` does its work.
    """

    about: str  # what it does
    # The option that words without "=" go into; see `ranet.cli.command.folders_as_option`.
    positional: str | None = None
    several: tuple[str, ...] = ()  # options that name one file or a list of them
    usage: str = "[OPTION=VALUE ...]"  # what follows the name, for the help


VERBS = {
    "check": Verb("look for what is wrong in a data set before training"),
    "train": Verb("train a network and draw its curves"),
    "calibrate": Verb("solve the exit policy that meets a budget"),
    "cascade": Verb("choose a cascade of the classifiers that there are", several=("candidates", "scores")),
    "evaluate": Verb("measure a trained network, or a policy, on test images"),
    "export": Verb("write a network and its policies as ONNX graphs for serving", several=("policy",)),
    "predict": Verb("answer images, and stop early", several=("images", "policy")),
    "bench": Verb("measure whether early exit pays, in milliseconds", several=("policy",)),
    "compare": Verb(
        "compare finished runs: mean and spread over seeds",
        positional="runs",
        usage="RUN_OR_SWEEP_FOLDER ... [OPTION=VALUE ...]",
    ),
    "networks": Verb("list the networks"),
    "costs": Verb("count what each exit of a network costs"),
}
