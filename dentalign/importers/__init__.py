"""Crowns, labelled scans, public data sets -> our case layout: a module per format, the rest is shared."""
