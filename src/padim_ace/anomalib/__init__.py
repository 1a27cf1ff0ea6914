"""PaDiM-ACE as a model of anomalib."""
