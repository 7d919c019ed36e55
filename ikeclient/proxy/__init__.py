"""A SOCKS5 and HTTP proxy whose listeners are outside a network namespace and whose own sockets are inside it."""
