"""`python -m node.cli` is `wasl`."""

from node.cli.main import main

if __name__ == "__main__":
    main()
