"""Estimators without labels: SequenceAnomalyDetector and SequenceEncoder, and their networks."""
