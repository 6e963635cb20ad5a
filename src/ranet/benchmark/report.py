"""A benchmark for people and programs: tables, and one folder with all of it."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan, nan
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from ranet.benchmark.figure import benchmark_figure
from ranet.benchmark.results import CALL, STREAM, Benchmark, SettingTimes
from ranet.benchmark.sentences import sentences
from ranet.benchmark.turns import ENOUGH, PERCENTILES, Pace
from ranet.evaluation.figures.style import save_figure
from ranet.evaluation.tables import Row, interval_columns, interval_of, percent, write_csv
from ranet.support.files import written_whole
from ranet.support.strict_json import strict_json

TABLE, RIVALS, FIGURE, ALL, TEXT = "bench.csv", "bench_rivals.csv", "bench.png", "bench.json", "bench.md"
FILES = (TABLE, RIVALS, FIGURE, ALL, TEXT)
HEADINGS = (
    "",
    "MACs %",
    "ms an image",
    "of whole",
    "of ideal",
    "images a second",
    *(f"p{p} ms" for p in PERCENTILES),
    "top-1 %",
)


class Line(NamedTuple):
    """A line of a setting's table: what, its share of the MACs or NaN, its time, of ideal or NaN, top-1 or NaN."""

    what: str
    macs: float
    timing: Pace
    of_ideal: float
    accuracy: float
    is_stream: bool = False


def lines(result: SettingTimes) -> list[Line]:
    """The network as trained and whole, each policy in each way, and the rivals."""
    found = [
        Line("as trained", result.trained_macs, result.trained, nan, nan),
        Line("all exits", 1.0, result.all_exits, nan, nan),
        Line("whole", result.whole_macs, result.whole, nan, result.last_exit.accuracy),
    ]
    for policy in result.policies:
        for way, timing in policy.measured.items():
            accuracy = policy.answered.accuracy
            found.append(
                Line(f"{policy.name}, {way}", policy.macs, timing, policy.of_ideal(way), accuracy, way == STREAM)
            )
    found += [Line(rival.name, nan, rival.timing, nan, rival.accuracy) for rival in result.rivals]
    return found


def _cells(line: Line, whole: Pace) -> list[str]:
    return [
        line.what,
        "-" if isnan(line.macs) else f"{100 * line.macs:.1f}",
        f"{line.timing.ms:#.3g}",
        f"{line.timing.ms / whole.ms:.2f}",
        "-" if isnan(line.of_ideal) else f"{line.of_ideal:.2f}",
        f"{line.timing.images_per_second:,.0f}",
        # The steps of a stream are no calls that anybody waits for.
        *("-" if line.is_stream or isnan(value) else f"{value:#.3g}" for value in line.timing.latency),
        percent(line.accuracy),
    ]


def setting_table(result: SettingTimes, rounds: int) -> Table:
    """One setting for the console."""
    table = Table(title=_title(result, rounds), caption=_caption(result), box=None, padding=(0, 0, 0, 1))
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading else "left")
    for line in lines(result):
        table.add_row(*_cells(line, result.whole))
    return table


def _title(result: SettingTimes, rounds: int) -> str:
    return f"{str(result.setting).capitalize()} ({result.images:,} images, {rounds} rounds)"


def _caption(result: SettingTimes) -> str:
    """What cuts cost, and what the runtime gives before any exit."""
    return (
        f"all stages one by one take {result.cuts:.2f} of the graph with all exits; whole, the network is "
        f"{result.speedup:.1f} times as fast as trained"
    )


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
                **interval_columns(
                    "accuracy_percent", interval_of(policy.answered.accuracy, benchmark.images), factor=100
                ),
                "accuracy_change_points": 100 * policy.answered.change,
                "answers_as_float32_percent": 100 * policy.answered.agreement,
                "whole_accuracy_percent": 100 * result.last_exit.accuracy,
            }
            row |= {f"share_{k}_percent": 100 * float(share) for k, share in enumerate(policy.exit_shares, 1)}
            rows.append(row)
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
    if timing is None:
        return {f"{name}_{column}": nan for column in ("ms", "ms_low", "ms_high", "images_per_second")}
    return {
        f"{name}_ms": timing.ms,
        f"{name}_ms_low": timing.low,
        f"{name}_ms_high": timing.high,
        f"{name}_images_per_second": timing.images_per_second,
    }


def _latency(timing: Pace) -> Iterator[tuple[int, float | str]]:
    """Percentiles, or nothing where there are too few steps."""
    for percentile, value in zip(PERCENTILES, timing.latency.tolist(), strict=True):
        yield percentile, "" if isnan(value) else value


def markdown(benchmark: Benchmark, title: str) -> str:
    """The tables and sentences, and under which conditions they hold."""
    parts = [f"# {title}"]
    for result in benchmark.settings:
        rows = [list(HEADINGS), ["---", *["---:"] * (len(HEADINGS) - 1)]]
        rows += [_cells(line, result.whole) for line in lines(result)]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts += [f"## {_title(result, benchmark.rounds)}", table, f"{_caption(result).capitalize()}."]
    parts += ["## What it says", "\n".join(f"- {sentence}" for sentence in sentences(benchmark))]
    conditions = "\n".join(f"- {name}: {value}" for name, value in benchmark.conditions.items())
    parts += ["## How it was measured", f"{HOW}\n\n{conditions}".strip()]
    return "\n\n".join(parts) + "\n"


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


def write_benchmark(folder: Path, benchmark: Benchmark, title: str) -> list[Path]:
    """Write bench.csv, bench.json, bench.md, where there are labels bench.png, and where there are rivals their CSV.

    Those of an earlier benchmark in the folder are removed, also where nothing takes their place.

    Returns:
        The files.
    """
    written = [folder / TABLE, folder / ALL, folder / TEXT]
    rows, rivals, text = policy_rows(benchmark), rival_rows(benchmark), markdown(benchmark, title)
    content = {
        "title": title,
        "images": benchmark.images,
        "rounds": benchmark.rounds,
        "exit_accuracies": benchmark.exit_accuracies.tolist(),
        "conditions": benchmark.conditions,
        "sentences": sentences(benchmark),
        "settings": [result.to_dict() for result in benchmark.settings],
    }
    data = strict_json(content)
    figure = benchmark_figure(benchmark, title) if benchmark.labelled else None
    write_csv(written[0], rows)
    with written_whole(written[1]) as partial:
        partial.write_text(data, encoding="utf-8")
    with written_whole(written[2]) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape")
    if rivals:
        write_csv(folder / RIVALS, rivals)
        written.append(folder / RIVALS)
    if figure is not None:
        save_figure(figure, folder / FIGURE)
        written.append(folder / FIGURE)
    for name in FILES:
        if folder / name not in written:
            (folder / name).unlink(missing_ok=True)
    return written
