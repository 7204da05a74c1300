"""Training of networks: one loop, its log, several processes."""
