"""Where cases and meshes come from: a folder, a server over HTTP, or a store that fsspec knows."""
