"""Pure functions over keys given as bytes; the only package that imports `cryptography`."""
