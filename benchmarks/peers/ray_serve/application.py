"""What the Ray Serve documentation shows: FastAPI under a deployment, with the same model.

No postponed annotations here: Serve ships this class to its replicas, and FastAPI reads its
annotations there.
"""

from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from gru import Gru, from_bytes, predictions
from pydantic import BaseModel
from ray import serve

app = FastAPI()


class Body(BaseModel):
    """The body of predict."""

    windows: list[list[list[float]]]


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(app)
class Plain:
    """The model behind FastAPI."""

    def __init__(self) -> None:
        self.gru = Gru()

    @app.post("/json")
    async def predict(self, body: Body) -> dict[str, Any]:
        """Label windows."""
        return {"predictions": predictions(self.gru.run(np.array(body.windows, dtype=np.float32)))}

    @app.post("/bytes")
    async def predict_bytes(self, request: Request) -> Response:
        """Float32 windows to float32 probabilities."""
        probabilities_BK = self.gru.run(from_bytes(await request.body()))
        return Response(probabilities_BK.tobytes(), media_type="application/octet-stream")
