"""The cluster definition and the local platform made from it."""
