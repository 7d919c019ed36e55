"""The processes of a tunnel: the tunnel itself, its helper, its namespace."""
