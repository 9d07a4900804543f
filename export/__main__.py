"""`python -m pleinair.export`, the same as the command `pleinair-export`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
