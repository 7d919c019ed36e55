"""Child SAs as agreed."""
