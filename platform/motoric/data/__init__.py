"""From recordings to windows: sources, the dataset on storage, and windows over it."""
