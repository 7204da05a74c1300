"""Alignment models: mouths at T1 in, poses at T2 out. Each is a folder here and a line of `registry`."""
