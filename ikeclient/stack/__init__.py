"""IP, UDP and TCP of our own, without input and output: a device for machines that give us none."""
