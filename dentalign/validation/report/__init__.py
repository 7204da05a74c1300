"""Outputs of the stage `validate` for people: the HTML report, pictures, tables, model cards."""
