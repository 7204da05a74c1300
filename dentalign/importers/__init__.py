"""Public data sets -> our case layout: one module per data set, the rest is shared."""
