"""The peer of serve_http.py: what the Ray Serve documentation shows, with the same ONNX model.

No postponed annotations here: Serve ships this class to its replicas, and FastAPI reads its
annotations there.
"""

from typing import Any

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

app = FastAPI()


class Body(BaseModel):
    """The body of predict."""

    windows: list[list[list[float]]]


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(app)
class Plain:
    """A model behind FastAPI.

    Args:
        model: Path of the ONNX file.
        num_classes: Its classes.
    """

    def __init__(self, model: str, num_classes: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(model, options)
        self.classes = [f"exercise-{index}" for index in range(num_classes)]

    @app.post("/predict")
    async def predict(self, body: Body) -> dict[str, Any]:
        """Label windows."""
        windows_BTC = np.array(body.windows, dtype=np.float32)
        probabilities_BK = self.session.run(None, {"windows": windows_BTC})[0]
        return {
            "predictions": [
                {
                    "label": self.classes[int(row.argmax())],
                    "probability": float(row.max()),
                    "probabilities": dict(zip(self.classes, row.tolist(), strict=True)),
                }
                for row in probabilities_BK
            ]
        }
