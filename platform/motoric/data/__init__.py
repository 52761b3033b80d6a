"""From recordings to windows: sources, the dataset on storage, and windows over it."""

from motoric.data.dataset import Dataset
from motoric.data.dataset import open_dataset as open  # noqa: A004

__all__ = ["Dataset", "open"]
