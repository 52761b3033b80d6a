"""Train a recipe as a Ray job.

    ray job submit --working-dir . -- python jobs/train.py jobs/recipes/watch_gru.yaml

The same as `motoric train`: it takes the same options and shows the same progress.
"""

import sys

from motoric.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
