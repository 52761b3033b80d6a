"""From recordings to windows: sources, the dataset on storage, and windows over it."""

from motoric.data.dataset import Dataset
from motoric.data.dataset import open_dataset as open

__all__ = ["Dataset", "open"]
