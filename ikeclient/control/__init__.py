"""One tunnel's Unix socket: what it tells and what it can be asked, for the command line and for scripts."""
