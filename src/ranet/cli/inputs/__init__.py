"""From options to networks, data, costs and budgets."""
