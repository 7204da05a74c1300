"""Training of networks: the loop, its log, and training in several processes."""
