"""`python -m cdjax` is `cdjax`."""

import sys

from cdjax.cli.main import main

if __name__ == "__main__":
  sys.exit(main())
