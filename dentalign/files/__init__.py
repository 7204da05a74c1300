"""Files: atomic writes, weights files."""
