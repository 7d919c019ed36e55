"""The command line: a client of the tunnels' control sockets, and the one place that talks to people."""
