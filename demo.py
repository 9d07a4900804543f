"""Paint from the command line: python demo.py --prompt "a red apple"."""

import sys

from pleinair.runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
