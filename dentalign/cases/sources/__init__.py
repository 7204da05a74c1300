"""Sources of cases and meshes: a folder, a server over HTTP, or a store that fsspec supports."""
