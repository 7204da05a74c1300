"""How the networks learn: one loop, and what it is given."""
