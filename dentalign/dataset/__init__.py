"""HDF5 files that pipeline stages exchange: clouds, latents, and all shards joined."""
