"""From manifests and folders to a committed dataset."""
