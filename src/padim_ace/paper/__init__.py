"""The paper: what its published code computes, the numbers that it gives, the detectors of its tables."""
