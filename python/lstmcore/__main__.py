"""``python -m lstmcore``: see :mod:`lstmcore._cli`."""

import sys

from lstmcore._cli import main

sys.exit(main())
