"""Prediction for a new patient: from a case at T1 to a planned T2 and its files."""
