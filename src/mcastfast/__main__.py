"""`python -m mcastfast` is the command `mcastfast`."""

import sys

from mcastfast.cli import main

if __name__ == "__main__":
    sys.exit(main())
