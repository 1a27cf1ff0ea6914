"""What scores many detectors on a prepared dataset: the one pass, metrics, results, and baselines."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dataset": ["PreparedDataset", "batches"],
        "experiment": ["Experiment", "Settings"],
        "convention": ["Convention"],
        "protocols": ["ARMS", "PROTOCOLS", "Draw", "draws"],
        "scorer": ["Scorer", "SignatureSet"],
        "tally": ["Tally"],
        "metrics": ["Histogram", "Truth", "image_metrics"],
        "selection": ["chosen_numbers", "scores_frames"],
        "examples": ["write_examples"],
        "image_scores": ["ImageScores", "area_frame", "clamp_frame", "histogram_frame"],
        "fill_visibility": ["correlation_measures", "padim_measures"],
        "rx": ["local_rx", "shared_rx"],
        "baselines": ["BASELINES", "run_baselines"],
        "results": ["collect", "merge_scores", "read_scores", "write_scores"],
    },
)
