"""What a network costs: multiply-adds and paper ops of every exit."""

from ranet.cost.counting import count_macs, count_paper_ops
from ranet.cost.profile import CostProfile, StageCosts, measure_costs

__all__ = ["CostProfile", "StageCosts", "count_macs", "count_paper_ops", "measure_costs"]
