"""HDF5 files that pipeline stages exchange: clouds and latents, a file per shard; latents of all shards."""
