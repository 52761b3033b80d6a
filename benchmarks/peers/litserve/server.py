"""LitServe: batches of up to `MAX_BATCH`, ZeroMQ between its processes, bodies parsed by orjson.

Bodies go to the worker as they came: pickling them is cheaper than pickling lists of numbers.
"""

from typing import Annotated, Any

import litserve as ls
from fastapi import Depends, Request, Response
from gru import MAX_BATCH, PORT, Gru, Probabilities, Windows, from_bytes, from_json, to_json


async def raw_body(request: Request) -> bytes:
    """The body."""
    return await request.body()


Raw = Annotated[bytes, Depends(raw_body)]


class Api(ls.LitAPI):
    """The model; a batch is the windows of several requests."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - its signature
        """Load it."""
        self.gru = Gru()

    def batch(self, inputs: list[Windows]) -> list[Windows]:
        """Requests of one or many windows stay apart until they run."""
        return inputs

    def predict(self, x: list[Windows]) -> list[Probabilities]:
        """Run one batch."""
        return self.gru.run_many(x)

    def unbatch(self, output: list[Probabilities]) -> list[Probabilities]:
        """One answer a request."""
        return output


class JsonApi(Api):
    """JSON in and out."""

    def decode_request(self, request: Raw) -> Windows:
        """Windows of a body."""
        return from_json(request)

    def encode_response(self, output: Probabilities) -> Response:
        """The answer."""
        return Response(to_json(output), media_type="application/json")


class BytesApi(Api):
    """Float32 in and out."""

    def decode_request(self, request: Raw) -> Windows:
        """Windows of a body."""
        return from_bytes(request)

    def encode_response(self, output: Probabilities) -> Response:
        """The answer."""
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    options: dict[str, Any] = {"max_batch_size": MAX_BATCH, "batch_timeout": 0.001}
    server = ls.LitServer(
        [JsonApi(api_path="/json", **options), BytesApi(api_path="/bytes", **options)],
        accelerator="cpu",
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=PORT,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
