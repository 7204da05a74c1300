"""Outputs of the pipeline stage `validate` for people: HTML report, pictures, tables, model cards."""
