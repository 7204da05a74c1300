"""HTTP server that predicts the case of a request and keeps nothing of it."""
