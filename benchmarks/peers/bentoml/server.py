"""BentoML: adaptive batching for JSON, an ASGI application mounted on the service for float32.

Its own types would read a body of bytes through a temporary file.
"""

from typing import Annotated, Any

import bentoml
import numpy as np
from bentoml.validators import DType, Shape
from gru import MAX_BATCH, Gru, from_bytes, predictions
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

gru = Gru()


async def predict_bytes(request: Request) -> Response:
    """Float32 windows to float32 probabilities."""
    probabilities_BK = gru.run(from_bytes(await request.body()))
    return Response(probabilities_BK.tobytes(), media_type="application/octet-stream")


raw = Starlette(routes=[Route("/", predict_bytes, methods=["POST"])])


@bentoml.asgi_app(raw, path="/bytes")
@bentoml.service(
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    traffic={"timeout": 30, "max_concurrency": 1024},
)
class Service:
    """The model."""

    @bentoml.api(route="/json", batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=1000)
    async def predict(
        self, windows: Annotated[np.ndarray, Shape((-1, 100, 6)), DType("float32")]
    ) -> list[dict[str, Any]]:
        """Label windows."""
        return predictions(gru.run(np.asarray(windows, dtype=np.float32)))
