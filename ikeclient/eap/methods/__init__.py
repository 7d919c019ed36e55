"""One EAP method a file."""
