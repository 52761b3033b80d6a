"""Where the platform runs: the cluster definition, the local head, and sessions on a Ray."""
