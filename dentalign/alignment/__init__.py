"""Alignment models: the mouth at T1 in, the mouth at T2 out. A folder per model, one line in `registry`."""
