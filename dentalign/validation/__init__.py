"""Quality of the models on the test split: figures, tables, pictures, the report."""
