"""What a network costs: multiply-adds and paper ops of every exit."""

from typing import TYPE_CHECKING

from ranet.support.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from ranet.cost.counting import Operations, count_operations
    from ranet.cost.profile import CostProfile, measure_costs
    from ranet.cost.table import CostTable

__all__ = ["CostProfile", "CostTable", "Operations", "count_operations", "measure_costs"]
__getattr__, __dir__ = lazy_exports(__name__)
