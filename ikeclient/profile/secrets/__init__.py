"""Secrets and credentials: where they come from."""
