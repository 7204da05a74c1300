"""Rigid motions, meshes, points on a tooth, and the distances between teeth; lengths in mm."""
