"""How well the models do on the test split: figures, tables, pictures, the report."""
