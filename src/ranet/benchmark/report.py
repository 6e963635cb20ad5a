"""A benchmark for people and programs: tables, sentences, and one folder with all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan, nan
from pathlib import Path

from ranet.benchmark.figure import benchmark_figure
from ranet.benchmark.results import CALL, STREAM, Benchmark, PolicyTimes, SettingTimes
from ranet.benchmark.turns import ENOUGH, PERCENTILES, Pace
from ranet.evaluation.cells import interval_of, interval_values, percent, share_values
from ranet.evaluation.reports.document import Document
from ranet.support.sheet import Column, Row, Sheet

TABLE, RIVALS, FIGURE, ALL, TEXT = "bench.csv", "bench_rivals.csv", "bench.png", "bench.json", "bench.md"
FILES = (TABLE, RIVALS, FIGURE, ALL, TEXT)
COLUMNS = (
    Column("", left=True),
    Column("MACs %", form=".1f"),
    Column("ms an image", form="#.3g"),
    Column("of whole", form=".2f"),
    Column("of ideal", form=".2f"),
    Column("images a second", form=",.0f"),
    *(Column(f"p{percentile} ms", form="#.3g") for percentile in PERCENTILES),
    Column("top-1 %", form=".2f"),
)


def setting_sheet(result: SettingTimes, rounds: int) -> Sheet:
    """Return one setting: the network as trained and whole, each policy in each way of answering, and the rivals."""
    rows = [
        _row(result, "as trained", result.trained, result.trained_macs),
        _row(result, "all exits", result.all_exits, 1.0),
        _row(result, "whole", result.whole, result.whole_macs, result.last_exit.accuracy),
    ]
    for policy in result.policies:
        for way, timing in policy.measured.items():
            row = _row(result, f"{policy.name}, {way}", timing, policy.macs, policy.answered.accuracy)
            row["of ideal"] = policy.of_ideal(way)
            if way == STREAM:  # whose steps are not calls
                row |= {f"p{percentile} ms": nan for percentile in PERCENTILES}
            rows.append(row)
    rows += [_row(result, rival.name, rival.timing, accuracy=rival.accuracy) for rival in result.rivals]
    title = f"{str(result.setting).capitalize()} ({result.images:,} images, {rounds} rounds)"
    caption = (
        f"all stages one by one take {result.cuts:.2f} of the graph with all exits; whole, the network is "
        f"{result.speedup:.1f} times as fast as trained"
    )
    return Sheet(title, rows, COLUMNS, caption)


def _row(result: SettingTimes, what: str, timing: Pace, macs: float = nan, accuracy: float = nan) -> Row:
    return {
        "": what,
        "MACs %": 100 * macs,
        "ms an image": timing.ms,
        "of whole": timing.ms / result.whole.ms,
        "of ideal": nan,
        "images a second": timing.images_per_second,
        **{f"p{percentile} ms": value for percentile, value in zip(PERCENTILES, timing.latency, strict=True)},
        "top-1 %": 100 * accuracy,
    }


def policy_rows(benchmark: Benchmark) -> list[Row]:
    """One row for each setting and policy, for programs."""
    rows: list[Row] = []
    for result in benchmark.settings:
        for policy in result.policies:
            row: Row = {
                **result.setting._asdict(),
                "policy": policy.name,
                "images": result.images,
                "rounds": benchmark.rounds,
                "predicted_cost_percent": 100 * policy.predicted,
                "macs_percent": 100 * policy.macs,
                "ideal_ms": policy.ideal,
            }
            for way in (CALL, STREAM):
                timing = policy.measured.get(way)
                row |= _time_columns(way, timing)
                row[f"{way}_over_ideal"] = nan if timing is None else policy.of_ideal(way)
                row[f"{way}_over_whole"] = nan if timing is None else timing.ms / result.whole.ms
            row[f"{CALL}_steps"] = policy.measured[CALL].steps
            row |= {f"{CALL}_p{p}_ms": value for p, value in _latency(policy.measured[CALL])}
            row |= {
                "whole_ms": result.whole.ms,
                "whole_macs_percent": 100 * result.whole_macs,
                "as_trained_ms": result.trained.ms,
                "all_exits_ms": result.all_exits.ms,
                "stages_over_all_exits": result.cuts,
                "whole_times_as_fast_as_trained": result.speedup,
                "accuracy_percent": 100 * policy.answered.accuracy,
                **interval_values("accuracy_percent", interval_of(policy.answered.accuracy, benchmark.images), 100),
                "accuracy_change_points": 100 * policy.answered.change,
                "answers_as_float32_percent": 100 * policy.answered.agreement,
                "whole_accuracy_percent": 100 * result.last_exit.accuracy,
            }
            rows.append(row | share_values("share", policy.exit_shares))
    return rows


def rival_rows(benchmark: Benchmark) -> list[Row]:
    """One row for each setting and rival, for programs."""
    return [
        {
            **result.setting._asdict(),
            "rival": rival.name,
            "shape": "x".join(map(str, rival.shape)),
            **_time_columns("rival", rival.timing),
            "steps": rival.timing.steps,
            **{f"p{p}_ms": value for p, value in _latency(rival.timing)},
            "over_whole": rival.timing.ms / result.whole.ms,
            "accuracy_percent": 100 * rival.accuracy,
        }
        for result in benchmark.settings
        for rival in result.rivals
    ]


def _time_columns(name: str, timing: Pace | None) -> Row:
    values = (nan,) * 4 if timing is None else (timing.ms, timing.low, timing.high, timing.images_per_second)
    return dict(
        zip((f"{name}_ms", f"{name}_ms_low", f"{name}_ms_high", f"{name}_images_per_second"), values, strict=True)
    )


def _latency(timing: Pace) -> Iterator[tuple[int, float | None]]:
    """Yield the percentiles; None where there are too few steps."""
    for percentile, value in zip(PERCENTILES, timing.latency.tolist(), strict=True):
        yield percentile, None if isnan(value) else value


def sentences(benchmark: Benchmark) -> list[str]:
    """Return the notices, and sentences about early exit that does not pay, rivals that win, and precisions."""
    pays = "Early exit pays in every setting: each policy takes less time than the whole network."
    return [
        *benchmark.notices,
        *([sentence for result in benchmark.settings for sentence in _where_it_does_not_pay(result)] or [pays]),
        *(sentence for result in benchmark.settings for sentence in _rivals_that_win(result)),
        *_what_precision_changes(benchmark.settings),
    ]


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


HOW = (
    "All take turns, round by round, on the same batches. Milliseconds an image are the medians over the rounds of the "
    "time of each batch, together; percentiles are of calls on one batch, over all rounds, and the tail is left out "
    f"where there are fewer than {ENOUGH} calls. As trained means plain PyTorch in float32, on a part of the batches "
    "where it would take most of the time; whole means one graph to the last exit in the setting's backend and "
    "precision, without the other exits' heads; all exits means the same graph with them, whose multiply-adds are "
    "100 %. Multiply-adds are those that the engine computes: of an MSDNet the lazy ones, without what no later exit "
    "reads. Cuts are timed on one batch of random images: all stages, one after another, in turns with the graph "
    "with all exits. The ideal is the sum over a policy's stages of the stage's own time times the share of "
    "images that reach it. Accuracies are of all images; those of rivals are as they were given."
)


def benchmark_document(benchmark: Benchmark, title: str) -> Document:
    """Return the tables, the sentences, the conditions under which they hold, and the files."""
    said = sentences(benchmark)
    conditions = [{"condition": name, "value": str(value)} for name, value in benchmark.conditions.items()]
    rivals = rival_rows(benchmark)
    content = {
        "title": title,
        "images": benchmark.images,
        "rounds": benchmark.rounds,
        "exit_accuracies": benchmark.exit_accuracies,
        "conditions": benchmark.conditions,
        "sentences": said,
        "settings": [result.to_dict() for result in benchmark.settings],
    }
    return Document(
        title,
        [
            *(setting_sheet(result, benchmark.rounds) for result in benchmark.settings),
            Sheet("How it was measured", conditions, caption=HOW),
        ],
        said,
        {
            TABLE: Sheet("Policies", policy_rows(benchmark)),
            ALL: content,
            **({RIVALS: Sheet("Rivals", rivals)} if rivals else {}),
            **({FIGURE: benchmark_figure(benchmark, title)} if benchmark.labelled else {}),
        },
    )


def write_benchmark(folder: Path, benchmark: Benchmark, title: str) -> list[Path]:
    """Write bench.csv, bench.json, bench.md, where there are labels bench.png, and where there are rivals their CSV.

    Those of an earlier benchmark in the folder are removed, also where nothing takes their place.

    Returns:
        The files.
    """
    written = benchmark_document(benchmark, title).write(folder, TEXT)
    for name in FILES:
        if folder / name not in written:
            (folder / name).unlink(missing_ok=True)
    return written
