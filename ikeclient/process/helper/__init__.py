"""The process that keeps the rights which the tunnel gives up."""
