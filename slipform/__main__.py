"""`python -m slipform`: the same as the command `slipform`."""

from slipform.cli import main

if __name__ == "__main__":
    main()
