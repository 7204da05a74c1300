"""How a command runs: exit codes, locks, worker processes, devices. Nothing here changes an output."""
