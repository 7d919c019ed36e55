"""A network namespace of an ordinary user."""
