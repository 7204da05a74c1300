"""Files: atomic writes, CSV tables, digests, weights files."""
