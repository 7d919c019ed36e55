"""NetworkManager's VPN plugin: a service that NetworkManager starts, and the programs around it."""
