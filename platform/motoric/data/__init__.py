"""From files to windows and clips: formats, ingest, the dataset on storage, and what is read of it.

`open` works in a notebook without Ray; `read_windows` and `read_clips` give Ray Datasets.
"""

from motoric.data.dataset import Dataset
from motoric.data.dataset import open_dataset as open
from motoric.data.reading import read_clips, read_windows

__all__ = ["Dataset", "open", "read_clips", "read_windows"]
