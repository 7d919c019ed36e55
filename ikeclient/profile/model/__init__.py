"""A profile as a value: its schema, and what its values mean."""
