"""Processes of ours among themselves: how one is forked, and how one talks with another."""
