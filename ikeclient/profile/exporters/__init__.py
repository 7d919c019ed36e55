"""Our profiles, written for other clients."""
