"""The detector alone: a background, a target signature, a statistic, and the torch module that joins them."""
