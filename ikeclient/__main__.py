"""`python -m ikeclient` is the command `ikeclient`."""

import sys

from ikeclient.cli.app import main

sys.exit(main())
