"""A profile from a file or from the environment, and whose it is."""
