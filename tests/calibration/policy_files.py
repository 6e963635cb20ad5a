"""Policy files to damage, and how a refusal must sound."""

import hashlib
import json
import re
from math import inf
from pathlib import Path
from typing import Any

from ranet.calibration import ExitPolicy, ExitScores, calibrate, load_policy
from ranet.errors import UserError

Content = dict[str, Any]


def full_policy(scores: ExitScores, costs: list[float]) -> ExitPolicy:
    """A policy with all entries that a file can have."""
    tempered = ExitScores(
        scores.confidence,
        scores.prediction,
        scores.correct_top5,
        scores.labels,
        temperatures=[1.0, 1.25, 0.75, 2.0],
    )
    metadata = {
        "network": {"name": "msdnet_tiny", "fingerprint": "0123456789abcdef"},
        "data": {"name": "größer", "validation": "fedcba9876543210"},
        "guarantee": {"eps": 0.01, "delta": 0.1},
        "used_exits": [1, 2],
        "notes": ["made for a test", None, True, 3],
    }
    solved = calibrate(tempered, costs, 3e6, unit="macs", metadata=metadata).policy
    return ExitPolicy(
        (inf, solved.thresholds[1], -inf), solved.score, solved.temperatures, {**solved.metadata, "ratio": 0.5}
    )


def signed(content: Content) -> Content:
    """The content with the checksum that belongs to it, computed as the documentation says."""
    body = {name: value for name, value in content.items() if name != "checksum"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return {**body, "checksum": hashlib.sha256(canonical.encode()).hexdigest()}


def refusal(file: Path) -> str:
    """The sentence that a file is refused with, its path left out; "" if it is loaded."""
    try:
        load_policy(file)
    except UserError as error:
        sentence = str(error)
    else:
        return ""
    assert repr(str(file)) in sentence
    sentence = sentence.replace(repr(str(file)), "FILE")
    assert re.fullmatch(r"The policy file FILE [^\n]*[^.\n]\.", sentence), sentence
    assert ". " not in sentence.replace("...", ""), "one sentence"
    assert len(sentence) < 300
    assert not re.search(r"Traceback|Error|Errno|<class|object at|0x[0-9a-f]{6}|sys\.", sentence), sentence
    return sentence
