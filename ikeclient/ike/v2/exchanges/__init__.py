"""The exchanges we start, each a one-level generator: it yields a `Request`, is resumed with the answer's payloads, and
returns a frozen outcome. None of them sets state, arms timers or emits events; `sa.py` does that from the outcome.
"""
