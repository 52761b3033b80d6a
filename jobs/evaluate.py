"""Cross-validate a recipe as a Ray job.

    ray job submit --working-dir . -- python jobs/evaluate.py jobs/recipes/watch_gru.yaml \
        --protocol leave_one_out

The same as `motoric evaluate`: it takes the same options and shows the same progress.
"""

import sys

from motoric.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
