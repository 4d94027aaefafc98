"""`python -m client_sdk`."""

import sys

from client_sdk._commands.main import main

if __name__ == "__main__":
    sys.exit(main())
