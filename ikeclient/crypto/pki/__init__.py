"""Certificates: parsing, names, constraints, path building and identities."""
