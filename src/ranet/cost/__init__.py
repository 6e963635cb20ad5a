"""What a network costs: multiply-adds and paper ops of every exit."""

from ranet.cost.counting import Operations, count_operations
from ranet.cost.profile import CostProfile, StageCosts, measure_costs

__all__ = [
    "CostProfile",
    "StageCosts",
    "Operations",
    "count_operations",
    "measure_costs",
]
