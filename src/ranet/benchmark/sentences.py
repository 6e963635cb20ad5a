"""What a benchmark comes to, in plain sentences: above all where early exit does not pay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan

from ranet.benchmark.results import CALL, STREAM, Benchmark, PolicyTimes, SettingTimes
from ranet.evaluation.cells import percent


def sentences(benchmark: Benchmark) -> list[str]:
    """Where early exit does not pay, where rivals win, and what a precision changes, in a sentence each."""
    said: list[str] = list(benchmark.notices)
    lost = [sentence for result in benchmark.settings for sentence in _where_it_does_not_pay(result)]
    if lost:
        said += lost
    else:
        said.append("Early exit pays in every setting: each policy takes less time than the whole network.")
    for result in benchmark.settings:
        said += _rivals_that_win(result)
    return [*said, *_what_precision_changes(benchmark.settings)]


def _where_it_does_not_pay(result: SettingTimes) -> Iterator[str]:
    for policy in result.policies:
        way, best = policy.fastest(result.whole)
        where = f"At {result.setting} the policy {_for(policy)}"
        if best >= 1:
            yield f"{where} takes {best:.2f} times as long as the whole network: early exit does not pay there."
        elif way == STREAM:
            calls = policy.measured[CALL].ms / result.whole.ms
            if calls >= 1:
                yield (
                    f"{where} takes {calls:.2f} times as long as the whole network in calls, and {best:.2f} times as a "
                    "stream: only the stream pays there."
                )


def _rivals_that_win(result: SettingTimes) -> Iterator[str]:
    """Rivals that are both faster and at least as accurate."""
    for rival in result.rivals:
        beaten = [
            policy
            for policy in result.policies
            if rival.accuracy >= policy.answered.accuracy
            and all(rival.timing.ms < timing.ms for timing in policy.measured.values())
        ]
        if beaten:
            yield (
                f"At {result.setting} {rival.name} ({percent(rival.accuracy)} %, {rival.timing.ms:.3g} ms) is faster "
                f"than, and at least as accurate as, the {_listed([_for(policy) for policy in beaten])}: early exit "
                "does not pay there."
            )


def _what_precision_changes(settings: Sequence[SettingTimes]) -> Iterator[str]:
    """Once for each backend and precision other than float32."""
    for backend, precision in dict.fromkeys((s.setting.backend, s.setting.precision) for s in settings):
        if precision == "float32":
            continue
        result = next(s for s in settings if s.setting[:2] == (backend, precision))
        worst = min((each.answered for each in result.policies), key=lambda each: each.agreement)
        changed = "" if isnan(worst.change) else f", which changes top-1 by {100 * worst.change:+.2f} points"
        last = "" if isnan(worst.change) else f" ({100 * result.last_exit.change:+.2f} points)"
        yield (
            f"In {backend} {precision} at least {100 * worst.agreement:.2f} % of a policy's answers are those of "
            f"float32{changed}; at the last exit {100 * result.last_exit.agreement:.2f} %{last}."
        )


def _for(policy: PolicyTimes) -> str:
    return policy.name.removeprefix("policy ") if policy.name.startswith("policy ") else f"for {policy.name}"


def _listed(names: Sequence[str]) -> str:
    head, last = ", ".join(names[:-1]), names[-1]
    return f"policies {head} and {last}" if head else f"policy {last}"
