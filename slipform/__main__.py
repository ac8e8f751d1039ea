"""`python -m slipform`: the same as the command `slipform`."""
