"""The networks and their weights files: tooth encoder and decoder, alignment models."""
