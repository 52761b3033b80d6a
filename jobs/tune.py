"""Search for the best values of a recipe as a Ray job.

    ray job submit --working-dir . -- python jobs/tune.py jobs/recipes/watch_search.yaml

The same as `motoric tune`: it takes the same options; its log has a line for each trial.
"""

import sys

from motoric.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["tune", *sys.argv[1:]]))
