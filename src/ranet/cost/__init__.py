"""What a network costs: multiply-adds and paper ops of every exit, and the milliseconds they take here."""

from ranet.cost.counting import Operations, count_operations
from ranet.cost.latency import measure_latency
from ranet.cost.latency_profile import LatencyProfile, Timings
from ranet.cost.profile import CostProfile, StageCosts, measure_costs

__all__ = [
    "CostProfile",
    "StageCosts",
    "Operations",
    "count_operations",
    "measure_costs",
    "LatencyProfile",
    "Timings",
    "measure_latency",
]
