"""`python -m lsc_engine` is `lsc-engine`."""

from lsc_engine.cli import main

if __name__ == "__main__":
    main()
