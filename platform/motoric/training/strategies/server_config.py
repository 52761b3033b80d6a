"""Settings of the parameter server, and the bound that follows from them. Pure."""

from __future__ import annotations

from pydantic import Field

from motoric.training.train_config import Part


class ParameterServerConfig(Part):
    """Of `strategy: parameter_server` alone."""

    num_servers: int = Field(
        default=1, ge=1, le=256, description="actors that hold a slice of the parameters each"
    )
    max_staleness: int | None = Field(
        default=None,
        ge=0,
        description="batches that may be behind the one a worker begins: 0 works them one after"
        " the other, by default twice the workers",
    )

    def bound(self, num_workers: int) -> int:
        """The bound for so many workers."""
        return 2 * num_workers if self.max_staleness is None else self.max_staleness
