"""Validation of the models on the test split: figures, tables, pictures and the report."""
