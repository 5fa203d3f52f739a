"""`python -m transformer_zoo`, which is `transformer-zoo`."""

import sys

from transformer_zoo.cli import main

if __name__ == "__main__":
    sys.exit(main())
