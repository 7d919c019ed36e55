"""Desktop notifications: what happens to tunnels, shown to the user of a session."""
