"""Segments cut and merged; compiled, with a plain twin."""
