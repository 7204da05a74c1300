"""Cases: where they come from, what is kept of them, where their teeth stand, what is left out."""
