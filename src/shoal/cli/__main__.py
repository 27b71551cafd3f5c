"""`python -m shoal.cli`: the command line without the installed script."""

from shoal.cli import main

if __name__ == "__main__":
    main()
