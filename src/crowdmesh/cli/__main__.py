"""``python -m crowdmesh.cli``: the same as the ``crowdmesh`` command."""

import sys

from crowdmesh.cli import main

sys.exit(main())
