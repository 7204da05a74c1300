"""HDF5 files between the stages: clouds, latents, and all shards in one."""
