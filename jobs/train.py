"""Train a recipe as a Ray job.

    ray job submit --working-dir . -- python jobs/train.py jobs/recipes/watch_gru.yaml

The same as `motoric train`: it takes the same options and shows the same progress. A job that was
stopped goes on from its last checkpoint with `--resume RUN` instead of the recipe.
"""

import sys

from motoric.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
