"""`python -m genprm` is the `genprm` command."""

from genprm.cli.main import main

if __name__ == "__main__":
    main()
