"""The machine that a tunnel runs on, changed and given back."""
