"""`python -m pleinair` is the command `pleinair`."""

import sys

from pleinair.runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
