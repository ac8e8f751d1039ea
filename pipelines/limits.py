"""The largest numbers that a Loader accepts. Settings are checked against the same limits.

A larger number is a mistake, or an attack by a stranger's recipe: it would end in a traceback of
the system.
"""

__all__ = ["MAX_PREFETCH", "MAX_SEED", "MAX_THREADS"]

MAX_SEED = 2**63 - 1  # torch and the Plan keep seeds in 64 bits
MAX_THREADS = 1024
MAX_PREFETCH = 256  # batches
