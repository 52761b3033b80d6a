"""Ingest a manifest or a folder as a Ray job.

    ray job submit -- python jobs/ingest.py s3://bucket/manifest.csv --out s3://bucket/datasets/team

The same as `motoric ingest`: it takes the same options; its log shows the progress. Files are named
by places that the cluster's nodes can read.
"""

import sys

from motoric.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["ingest", *sys.argv[1:]]))
