"""The engine and its stream answer as the policy replayed on the logits of all exits."""

from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranet import EarlyExitEngine, ExitPolicy
from tests.inference.networks import FLOAT32, make_of_three_exits
from tests.inference.replay import all_logits, between_scores, replayed

SCORES = ("confidence", "margin", "entropy", "patience")


BACKENDS = ("torch", "onnxruntime", "openvino")
NAMES = ("msdnet_tiny", "ranet_tiny", "isc_msdnet_tiny")
NETWORKS = {name: make_of_three_exits(name) for name in NAMES}
IMAGES = np.random.default_rng(0).standard_normal((150, 3, 32, 32), dtype=np.float32)
LOGITS = {name: all_logits(network, IMAGES) for name, network in NETWORKS.items()}


@cache
def engine_of(name: str, backend: str) -> EarlyExitEngine:
    """Made when a test first asks for it, because to export a network takes seconds."""
    pytest.importorskip(backend)
    network = NETWORKS[name]
    return EarlyExitEngine(network, ExitPolicy((0.5,) * (network.num_exits - 1)), backend=backend)


def close(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> bool:
    """Whether logits agree, relative to the largest."""
    return found.shape == expected.shape and bool(
        (abs(found - expected) <= FLOAT32 * max(1.0, abs(expected).max(initial=0))).all()
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, ExitPolicy, int, int | None]:
    name = draw(st.sampled_from(NAMES))
    score = draw(st.sampled_from(SCORES))
    count = draw(st.sampled_from([0, 1, 2, 3, 17, 64, 65, 150]))
    exits = NETWORKS[name].num_exits
    ranks = draw(st.lists(st.floats(-0.2, 1.4), min_size=exits - 1, max_size=exits - 1))
    temperatures = draw(st.none() | st.tuples(*[st.floats(0.5, 3.0)] * exits))
    thresholds = between_scores(score, LOGITS[name], ranks, temperatures)
    max_exit = draw(st.none() | st.integers(0, exits - 1))
    return name, ExitPolicy(thresholds, score, temperatures), count, max_exit


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=settings().max_examples // 3)
@given(case=cases())
def test_a_call_answers_as_the_replay(backend: str, case: tuple[str, ExitPolicy, int, int | None]) -> None:
    name, policy, count, max_exit = case
    answers = engine_of(name, backend)(IMAGES[:count], policy=policy, max_exit=max_exit)
    exits, labels, logits = replayed(policy, LOGITS[name][:, :count], max_exit)
    np.testing.assert_array_equal(answers.exits, exits)
    np.testing.assert_array_equal(answers.labels, labels)
    assert close(answers.logits, logits)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=settings().max_examples // 3)
@given(case=cases(), sizes=st.lists(st.integers(0, 40), max_size=8), size=st.sampled_from([1, 4, 16, 64]))
def test_a_stream_answers_as_the_replay(
    backend: str, case: tuple[str, ExitPolicy, int, int | None], sizes: list[int], size: int
) -> None:
    name, policy, _, max_exit = case
    ends = [min(end, len(IMAGES)) for end in np.cumsum([0, *sizes]).tolist()]
    batches = [IMAGES[a:b] for a, b in pairwise(ends)]
    answered = list(engine_of(name, backend).stream(iter(batches), batch_size=size, policy=policy, max_exit=max_exit))
    assert [len(each) for each in answered] == [len(batch) for batch in batches]
    exits, labels, logits = replayed(policy, LOGITS[name][:, : ends[-1]], max_exit)
    if batches:
        np.testing.assert_array_equal(np.concatenate([each.exits for each in answered]), exits)
        np.testing.assert_array_equal(np.concatenate([each.labels for each in answered]), labels)
        together = np.concatenate([each.logits for each in answered])
        assert close(together, logits)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", NAMES)
def test_recorded_graphs_on_a_gpu_answer_as_the_replay(name: str) -> None:
    exits = NETWORKS[name].num_exits
    policy = ExitPolicy(between_scores("margin", LOGITS[name], [0.4] * (exits - 1)), score="margin")
    with torch.backends.cudnn.flags(allow_tf32=False):
        engine = EarlyExitEngine(NETWORKS[name], policy, backend="torch", device="cuda")
        expected, labels, logits = replayed(policy, LOGITS[name])
        for count in (0, 1, 5, 64, 150):
            answers = engine(IMAGES[:count])
            np.testing.assert_array_equal(answers.exits, expected[:count])
            np.testing.assert_array_equal(answers.labels, labels[:count])
            assert close(answers.logits, logits[:count])
        streamed = list(engine.stream([IMAGES[:40], IMAGES[40:150]], batch_size=32))
        np.testing.assert_array_equal(np.concatenate([each.exits for each in streamed]), expected)
        on_device = engine(torch.from_numpy(IMAGES).cuda())
        np.testing.assert_array_equal(on_device.exits, expected)
