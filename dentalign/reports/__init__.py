"""Pictures and pages for people: rendering, the 3D viewer, charts."""
