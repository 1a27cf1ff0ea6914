"""PaDiM-ACE: anomaly detection and localisation in SAR imagery."""
