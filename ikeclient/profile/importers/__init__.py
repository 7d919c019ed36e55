"""Profiles of other clients, read into ours."""
