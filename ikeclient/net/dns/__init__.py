"""Name resolution of the machine, one file a backend."""
