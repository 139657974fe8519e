"""`python -m cellfeat` is the `cellfeat` command."""

from cellfeat.cli import main

if __name__ == "__main__":
    main()
