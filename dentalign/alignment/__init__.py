"""Alignment models, mouths at T1 in and poses at T2 out: a folder and a line of `registry` for each."""
