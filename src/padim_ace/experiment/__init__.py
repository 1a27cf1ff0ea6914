"""What scores many detectors on a prepared dataset: the one pass, metrics, results, and baselines."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dataset": ["PreparedDataset", "batches"],
        "experiment": ["Experiment", "Settings", "write_examples"],
        "protocols": ["ARMS", "PROTOCOLS", "Draw", "draws"],
        "scorer": ["Convention", "Scorer", "SignatureSet"],
        "tally": ["Tally"],
        "metrics": ["Histogram", "Truth", "image_metrics"],
        "clamp": ["clamp_frame"],
        "classes": ["confusion"],
        "fill_visibility": ["fill_frame"],
        "rx": ["local_rx", "shared_rx"],
        "baselines": ["BASELINES"],
        "baseline_runs": ["run_baselines"],
        "intervals": ["half_width"],
        "results": ["collect", "merge_scores", "read_scores", "write_scores"],
    },
)
