"""What the results say of early exit on the clock is what the output of the benchmark says."""

import re
from functools import cache

import numpy as np

from ranet import create_network, measure_costs
from tests.results.readme import RESULTS, check_section, span

NAME = "Early exit on the clock"
NUMBER = r"([\d.,]+)"
RUNTIMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "torch": "PyTorch"}
MSDNET, RANET = "msdnet_cifar_budgeted_5", "ranet_cifar_budgeted_1"
SHARES = ("25", "50", "75")
IDEAL = tuple(f"{share} ideal" for share in SHARES)
Key = tuple[str, str, str, int]
WITHOUT_FILE = [
    *("lazy MACs are 25, 50 and 75 % of", "*25 %* and so on", "Below 1 is", "allow 71 % of the MACs in place of 75 %"),
    *("about 5 % for copying", "4 to 7 % for decisions", "Below 1, because"),
    *("0.45 and 0.9 ms", "PyTorch 2.15.0, OpenVINO 2026.4.1, ONNX Runtime 1.31.1"),
]


@cache
def benchmark() -> dict[Key, dict[str, float]]:
    """The medians, by network, runtime, precision and batch size."""
    of_a_row = (
        rf"(\w+) (\w+), batch (\d+), {NUMBER} images, ms an image: whole {NUMBER}, all exits {NUMBER}, "
        rf"as trained {NUMBER}"
    )
    of_its_lines = {
        rf"  cuts {NUMBER} .*before any exit {NUMBER} .*the last head alone {NUMBER} .*": ("cuts", "before", "alone"),
        **{
            rf"  {share}% of MACs: {NUMBER} ms an image; over ideal {NUMBER} .*; over whole {NUMBER} .*": (
                *(f"{share} {what}" for what in ("ms", "ideal", "whole")),
            )
            for share in SHARES
        },
    }
    found: dict[Key, dict[str, float]] = {}
    network = ""
    for line in (RESULTS / "early_exit_cpu" / "bench_engine.txt").read_text().splitlines():
        if match := re.fullmatch(r"(\w+), random weights and images, seed 0", line):
            network = match[1]
        elif match := re.fullmatch(of_a_row, line):
            runtime, precision, batch, images, *times = match.groups()
            here = found[network, runtime, precision, int(batch)] = {"images": float(images.replace(",", ""))}
            here |= dict(zip(("whole", "all exits", "as trained"), map(float, times), strict=True))
        for pattern, names in of_its_lines.items():
            if match := re.fullmatch(pattern, line):
                here |= dict(zip(names, map(float, match.groups()), strict=True))
    assert {len(each) for each in found.values()} == {16}
    return found


def ratios(*names: str, **which: str | int) -> np.ndarray:
    """Some numbers of the rows of a network, runtime, precision or batch size."""
    keys = ("network", "runtime", "precision", "batch")
    chosen = [row for key, row in benchmark().items() if which.items() <= dict(zip(keys, key, strict=True)).items()]
    return np.array([[row[name] for name in names] for row in chosen])


def share_of_last_head_alone(name: str) -> str:
    """The MACs of a network without its earlier heads, of those of all exits."""
    costs = measure_costs(create_network(name))
    return f"{costs.lazy_macs_per_exit_alone[-1] / costs.lazy_macs_per_exit[-1]:.0%}".replace("%", " %")


def table_rows() -> list[str]:
    found = []
    for (_, runtime, precision, batch), row in benchmark().items():
        parts = [f"{row[f'{s} ms']:.3f}, {row[f'{s} ideal']:.2f}, {row[f'{s} whole']:.2f}" for s in SHARES]
        found.append(
            f"| {RUNTIMES[runtime]} {precision} | {batch} | {row['as trained']:.2f} | {row['all exits']:.3f} | "
            f"{row['whole']:.3f} | {row['cuts']:.2f} | {' | '.join(parts)} |"
        )
    return found


def sentences() -> list[str]:
    openvino = {"runtime": "openvino", "precision": "bfloat16"}
    in_float32, in_bfloat16 = (100 * (ratios("cuts", precision=name) - 1) for name in ("float32", "bfloat16"))
    streams = np.sort(ratios(*IDEAL, batch=32).ravel())
    of_msdnet = {batch: ratios(*IDEAL, network=MSDNET, batch=batch, **openvino) for batch in (32, 1)}
    singles = ratios(*IDEAL, batch=1)
    other_singles = singles[~(singles == of_msdnet[1]).all(axis=1)]
    one, many = (ratios("before", "alone", batch=batch, **openvino) for batch in (1, 32))
    by_stream, alone = (f"{ratios('images', batch=batch)[0, 0]:,.0f} " for batch in (32, 1))
    return [
        f"({by_stream}images in batches of 32 by stream, {alone}one by one; random weights and images, seed 0;",
        f"cost {span(in_float32, '.0f')} % of the graph with all exits** in float32, and {span(in_bfloat16, '.0f')} % "
        "in bfloat16",
        f"takes {share_of_last_head_alone(MSDNET)} of the MACs of all exits (MSDNet) or "
        f"{share_of_last_head_alone(RANET)} (RANet): leaving at 75 % of the MACs takes "
        f"{span(ratios('75 whole', network=MSDNET))} of its time for the MSDNet, and "
        f"{span(ratios('75 whole', network=RANET))} for the RANet",
        f"**A stream takes {span(streams[:-2])} of the ideal**, with two exceptions (RANet, {streams[-1]:.2f}: ONNX "
        "Runtime at 50 % and PyTorch bfloat16 at 25 %)",
        f"the MSDNet in OpenVINO bfloat16 is the slowest against its ideal ({of_msdnet[32].mean():.2f})",
        f"**A single image takes {span(other_singles)} of the ideal**, the MSDNet in OpenVINO bfloat16 "
        f"{span(of_msdnet[1])}",
        f"OpenVINO in bfloat16 is {one[0, 0]:.2f} times (MSDNet) and {one[1, 0]:.2f} times (RANet) as fast as the "
        f"network as trained for one image, and {many[0, 0]:.2f} and {many[1, 0]:.2f} times in batches of 32, there "
        f"with the last head alone {many[0, 1]:.2f} and {many[1, 1]:.2f} times",
    ]


def test_the_section_says_what_the_benchmark_says() -> None:
    check_section(NAME, sentences(), table_rows(), WITHOUT_FILE)


def test_the_two_slow_streams_are_those_that_are_named() -> None:
    slow = {(*key, name) for key, row in benchmark().items() for name in IDEAL if key[3] == 32 and row[name] > 1.15}
    assert slow == {(RANET, "onnxruntime", "float32", 32, "50 ideal"), (RANET, "torch", "bfloat16", 32, "25 ideal")}
    assert len({benchmark()[key[:4]][key[4]] for key in slow}) == 1
    assert (RANET, "torch", "bfloat16", 1) not in benchmark()  # it was stopped before


def test_the_slowest_in_the_mean_is_the_one_that_is_named() -> None:
    means = ratios(*IDEAL, batch=32).mean(axis=1)
    assert means.max() == ratios(*IDEAL, network=MSDNET, runtime="openvino", precision="bfloat16", batch=32).mean()
