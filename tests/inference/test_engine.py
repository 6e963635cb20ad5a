"""The engine and its stream answer as the policy replayed on the logits of all exits."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from ranet import EarlyExitEngine, ExitPolicy
from tests.inference.networks import make
from tests.inference.replay import all_logits, between_scores, replayed

SCORES = ("confidence", "margin", "entropy", "patience")


NAMES = ("msdnet_tiny", "ranet_tiny", "isc_msdnet_tiny")
NETWORKS = {name: make(name) for name in NAMES}
IMAGES = np.random.default_rng(0).standard_normal((150, 3, 32, 32), dtype=np.float32)
LOGITS = {name: all_logits(network, IMAGES) for name, network in NETWORKS.items()}
ENGINES = {
    name: EarlyExitEngine(network, ExitPolicy((0.5,) * (network.num_exits - 1)), backend="torch")
    for name, network in NETWORKS.items()
}


def close(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], within: float = 1e-5) -> bool:
    """Whether logits agree, relative to the largest."""
    return found.shape == expected.shape and bool(
        (abs(found - expected) <= within * max(1.0, abs(expected).max(initial=0))).all()
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, ExitPolicy, int, int | None]:
    name = draw(st.sampled_from(NAMES))
    score = draw(st.sampled_from(SCORES))
    count = draw(st.sampled_from([0, 1, 2, 3, 17, 64, 65, 150]))
    exits = NETWORKS[name].num_exits
    ranks = draw(st.lists(st.floats(-0.2, 1.4), min_size=exits - 1, max_size=exits - 1))
    thresholds = between_scores(score, LOGITS[name], ranks)
    max_exit = draw(st.none() | st.integers(0, exits - 1))
    return name, ExitPolicy(thresholds, score=score), count, max_exit


@settings(max_examples=60, deadline=None)
@given(cases())
def test_a_call_answers_as_the_replay(case: tuple[str, ExitPolicy, int, int | None]) -> None:
    name, policy, count, max_exit = case
    answers = ENGINES[name](IMAGES[:count], policy=policy, max_exit=max_exit)
    exits, labels, logits = replayed(policy, LOGITS[name][:, :count], max_exit)
    np.testing.assert_array_equal(answers.exits, exits)
    np.testing.assert_array_equal(answers.labels, labels)
    assert close(answers.logits, logits)


@settings(max_examples=40, deadline=None)
@given(cases(), st.lists(st.integers(0, 40), max_size=8), st.sampled_from([1, 3, 16, 64]))
def test_a_stream_answers_as_the_replay(
    case: tuple[str, ExitPolicy, int, int | None], sizes: list[int], size: int
) -> None:
    name, policy, _, max_exit = case
    ends = [min(end, len(IMAGES)) for end in np.cumsum([0, *sizes]).tolist()]
    batches = [IMAGES[a:b] for a, b in pairwise(ends)]
    answered = list(ENGINES[name].stream(iter(batches), batch_size=size, policy=policy, max_exit=max_exit))
    assert [len(each) for each in answered] == [len(batch) for batch in batches]
    exits, labels, logits = replayed(policy, LOGITS[name][:, : ends[-1]], max_exit)
    if batches:
        np.testing.assert_array_equal(np.concatenate([each.exits for each in answered]), exits)
        np.testing.assert_array_equal(np.concatenate([each.labels for each in answered]), labels)
        together = np.concatenate([each.logits for each in answered])
        assert close(together, logits)
