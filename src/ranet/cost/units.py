"""Costs as people write them: a unit's name, and numbers scaled to thousands, millions or billions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

COUNTS = {
    "paper_ops": "multiply-adds (paper ops)",
    "macs": "multiply-adds",
    "lazy_paper_ops": "multiply-adds (paper ops, lazy)",
    "lazy_macs": "multiply-adds (lazy)",
}
OTHERS = {"ms": "milliseconds", "s": "seconds", "fraction": "fraction of the full cost"}
PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class CostScale:
    """How costs are written in tables and figures: divided by ``divisor``, which then counts ``label``.

    Example:
        >>> scale = CostScale.of([3.0e6, 28.8e6], "paper_ops")
        >>> scale.text(28.8e6), scale.label
        ('28.80', 'M multiply-adds (paper ops)')
    """

    divisor: float
    label: str

    @classmethod
    def of(cls, costs: npt.ArrayLike, unit: str) -> CostScale:
        """The scale that suits these costs: M for millions and so on; times and fractions stay as they are."""
        if unit not in COUNTS:
            return cls(1.0, OTHERS.get(unit, unit or "cost"))
        largest = float(np.max(np.asarray(costs, dtype=np.float64)))
        divisor, prefix = next((pair for pair in PREFIXES if largest >= pair[0]), (1.0, ""))
        return cls(divisor, f"{prefix} {COUNTS[unit]}".strip())

    def text(self, cost: float) -> str:
        """The scaled cost with four significant digits."""
        return f"{cost / self.divisor:#.4g}"
