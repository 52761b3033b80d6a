"""The `motoric` command."""
