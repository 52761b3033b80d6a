"""The Python client of Motoric."""

from motoric.client.blocking import Stream
from motoric.client.client import AsyncClient, Client
from motoric.client.exchange import Backoff
from motoric.client.results import (
    Estimate,
    Health,
    Predictions,
    ReleasedModel,
    Segment,
    ServedModel,
    Timeline,
)
from motoric.client.streams import AsyncStream

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "Backoff",
    "Client",
    "Estimate",
    "Health",
    "Predictions",
    "ReleasedModel",
    "Segment",
    "ServedModel",
    "Stream",
    "Timeline",
]
