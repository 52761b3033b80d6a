"""mosec: its Rust front, and one worker a kind of body with batches of up to `MAX_BATCH`."""

from gru import MAX_BATCH, Gru, Probabilities, Windows, from_bytes, from_json, to_json
from mosec import Runtime, Server, Worker


class JsonWorker(Worker):
    """JSON in and out."""

    def __init__(self) -> None:
        self.gru = Gru()

    def deserialize(self, data: bytes) -> Windows:
        """Windows of a body."""
        return from_json(data)

    def forward(self, data: list[Windows]) -> list[Probabilities]:
        """Run one batch."""
        return self.gru.run_many(data)

    def serialize(self, data: Probabilities) -> bytes:
        """The answer."""
        return to_json(data)


class BytesWorker(JsonWorker):
    """Float32 in and out."""

    resp_mime_type = "application/octet-stream"

    def deserialize(self, data: bytes) -> Windows:
        """Windows of a body."""
        return from_bytes(data)

    def serialize(self, data: Probabilities) -> bytes:
        """The answer."""
        return data.tobytes()


if __name__ == "__main__":
    server = Server()
    server.register_runtime(
        {
            "/json": [Runtime(JsonWorker, max_batch_size=MAX_BATCH, max_wait_time=1)],
            "/bytes": [Runtime(BytesWorker, max_batch_size=MAX_BATCH, max_wait_time=1)],
        }
    )
    server.run()
