"""What scores many detectors on a prepared dataset: the one pass, metrics, results, and baselines."""
