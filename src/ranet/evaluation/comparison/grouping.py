"""Groups of runs that repeat one method, and short labels for the groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ranet.errors import unknown_name

Options = Mapping[str, str]

NO_METHOD = (
    *("seed", "data.seed"),
    # names and places
    *("run", "sweep", "run_name", "technique.first_stage_run", "logger", "data.root", "data.download"),
    # same computation, other hardware or speed
    *("data.num_workers", "data.eval_batch_size", "trainer.accelerator", "trainer.deterministic"),
    *("compile", "channels_last"),
    # before and after the training
    *("resume", "evaluate", "unit", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
)
"""Options, and groups of options, that do not define the method: runs that differ only in these are repetitions."""

_FIRST = ("technique", "model")


class Grouping(NamedTuple):
    """Groups of runs; the runs are numbered in the given order."""

    labels: tuple[str, ...]  # a unique name for each group
    members: tuple[tuple[int, ...], ...]  # the numbers of each group's runs
    details: tuple[Options, ...]  # for each group, the options in which it differs from another
    pooled: tuple[str, ...]  # the options that differ within a group


def group_runs(runs: Sequence[Options], keys: Sequence[str] | None = None) -> Grouping:
    """Group runs by the options in which they differ, or by these; by default by all but `NO_METHOD`.

    The keys are options or whole groups of options. There must be at least one run.

    Raises:
        UserError: for a key that no run has.

    Example:
        >>> runs = [{"seed": "0", "technique.name": "ge"}, {"seed": "1", "technique.name": "ge"}]
        >>> grouping = group_runs([*runs, {"seed": "0", "technique.name": "plain"}])
        >>> grouping.labels, grouping.members
        (('ge', 'plain'), ((0, 1), (2,)))
    """
    known = dict.fromkeys(name for run in runs for name in run)
    for key in keys or ():
        if not any(_belongs(name, (key,)) for name in known):
            raise unknown_name("option to group by", key, {*known, *(name.partition(".")[0] for name in known)})
    method = [name for name in known if not _belongs(name, NO_METHOD)]
    chosen = method if keys is None else [name for name in known if _belongs(name, keys)]

    members: dict[tuple[str | None, ...], list[int]] = {}
    for number, run in enumerate(runs):
        members.setdefault(tuple(run.get(name) for name in chosen), []).append(number)
    pooled = [name for name in method if any(_differs(name, (runs[i] for i in group)) for group in members.values())]
    leaders = [runs[group[0]] for group in members.values()]
    told = [name for name in dict.fromkeys([*chosen, *method]) if name not in pooled and _differs(name, leaders)]
    return Grouping(
        labels=tuple(group_labels([_only(run, chosen) for run in leaders])),
        members=tuple(map(tuple, members.values())),
        details=tuple(_only(run, told) for run in leaders),
        pooled=tuple(pooled),
    )


def group_labels(groups: Sequence[Options]) -> list[str]:
    """Return a short label for each group, made of the options that differ.

    Each section of the configuration ("technique", "optim") that differs has its part of the label. The part is the
    section's ``name`` if this distinguishes the groups, else a few options that do, with names as short as is clear.
    A section is never dropped because another differs in the same way: the label shows all that is compared.

    Example:
        >>> group_labels([{"technique.name": "ge", "technique.gamma": "1"}, {"technique.name": "ofa"}])
        ['ge', 'ofa']
        >>> group_labels([{"optim.lr": "0.1", "model.name": "ranet"}, {"optim.lr": "0.2", "model.name": "ranet"}])
        ['lr=0.1', 'lr=0.2']
    """
    if len(groups) == 1:
        (only,) = groups
        return [only.get("technique.name") or only.get("model.name") or "all runs"]
    differing = [name for name in dict.fromkeys(name for group in groups for name in group) if _differs(name, groups)]
    sections = dict.fromkeys(name.partition(".")[0] for name in differing)
    ordered = [*(first for first in _FIRST if first in sections), *(s for s in sections if s not in _FIRST)]
    parts = [_section_parts(section, differing, groups) for section in ordered]
    return [", ".join(part for part in of_group if part) for of_group in zip(*parts, strict=True)]


def _section_parts(section: str, differing: Sequence[str], groups: Sequence[Options]) -> list[str]:
    """Return the part of each group's label for this section."""
    name = f"{section}.name"
    own = sorted((option for option in differing if _belongs(option, (section,))), key=lambda option: option != name)
    telling: list[str] = []
    for option in own:
        if _variants(groups, [*telling, option]) > _variants(groups, telling):
            telling.append(option)
    parts = []
    for group in groups:
        named = [group.get(name, f"no {name}")] if name in telling else []
        # Groups with the same name as this one; without a name, all.
        peers = [other for other in groups if name not in telling or other.get(name) == group.get(name)]
        rest = [option for option in telling if option != name and _differs(option, peers)]
        parts.append(" ".join([*named, *(_said(option, group.get(option), differing) for option in rest)]))
    return parts


def _said(option: str, value: str | None, among: Iterable[str]) -> str:
    """Return ``lr=0.1``, with the shortest ending of the option's name that no other differing option has."""
    words = option.split(".")
    endings = (".".join(words[start:]) for start in range(len(words) - 1, -1, -1))
    short = next((end for end in endings if sum(f".{other}".endswith(f".{end}") for other in among) == 1), option)
    return f"no {short}" if value is None else f"{short}={value}"


def _variants(groups: Iterable[Options], options: Sequence[str]) -> int:
    return len({tuple(group.get(option) for option in options) for group in groups})


def _differs(option: str, among: Iterable[Options]) -> bool:
    return len({options.get(option) for options in among}) > 1


def _belongs(option: str, keys: Iterable[str]) -> bool:
    """Return whether the option is one of the keys, or of a group of options that is."""
    return any(f"{option}.".startswith(f"{key}.") for key in keys)


def _only(options: Options, names: Iterable[str]) -> dict[str, str]:
    return {name: options[name] for name in names if name in options}
