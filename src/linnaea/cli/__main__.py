"""``python -m linnaea.cli``: the same as the command ``linnaea``."""

import sys

from linnaea.cli import main

sys.exit(main())
