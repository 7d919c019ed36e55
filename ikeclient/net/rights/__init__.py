"""Rights: what the process has, how they are given, how they are dropped."""
