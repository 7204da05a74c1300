"""Patient cases: their sources, parser and checks, the poses of their teeth, the list of what is left out."""
