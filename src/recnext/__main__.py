"""`python -m recnext` is `recnext`."""

from recnext.cli.main import main

if __name__ == "__main__":
    main()
