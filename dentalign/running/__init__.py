"""Execution of commands: exit codes, locks, worker processes, devices. Nothing here changes an output."""
