"""Profiles: TOML files become validated values, and those become what the protocol and the machine are told to do."""
