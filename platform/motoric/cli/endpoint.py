"""A small client of a model's endpoint, for the command line.

In: windows. Out: the JSON of the endpoint. Problem documents become the errors they stand for.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from motoric.artefact.signature import Signature
from motoric.cluster.credentials import read_key
from motoric.core.errors import (
    AccessError,
    InputError,
    MalformedBodyError,
    MotoricError,
    NotFoundError,
    PlatformError,
    TooLargeError,
)
from motoric.core.settings import Settings

_WINDOWS_A_REQUEST = 32
_BY_STATUS: dict[int, type[MotoricError]] = {
    400: MalformedBodyError,
    401: AccessError,
    404: NotFoundError,
    413: TooLargeError,
    422: InputError,
}


class Endpoint:
    """One model's endpoint.

    Args:
        settings: Where it is; the key comes from there or from the user's credentials.
        model: Name of the model.

    Raises:
        AccessError: There is no key for this address.
    """

    def __init__(self, settings: Settings, model: str) -> None:
        key = read_key(settings)
        if key is None:
            raise AccessError(
                f"no API key for {settings.base_url}: set MOTORIC_API_KEY, or run `motoric up` here"
            )
        self._client = httpx.Client(
            base_url=f"{settings.base_url}/v1/models/{model}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=60.0,
            trust_env=False,
        )

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def signature(self) -> Signature:
        """What the endpoint takes and gives."""
        return Signature.model_validate(self._send("GET", "")["signature"])

    def predict(self, windows_BTC: NDArray[np.float32]) -> dict[str, Any]:
        """Predict windows of shape (B, T, C), any number of them.

        Returns:
            The endpoint's answer; `predictions` has one entry a window, in order.
        """
        answer: dict[str, Any] = {}
        predictions: list[dict[str, Any]] = []
        for first in range(0, len(windows_BTC), _WINDOWS_A_REQUEST):
            part = np.ascontiguousarray(windows_BTC[first : first + _WINDOWS_A_REQUEST])
            body = orjson.dumps({"windows": part}, option=orjson.OPT_SERIALIZE_NUMPY)
            answer = self._send("POST", "/predict", body)
            predictions.extend(answer["predictions"])
        return answer | {"predictions": predictions}

    def _send(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            response = self._client.request(method, path, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise PlatformError(
                f"{self._client.base_url} does not answer ({error}): is the platform up?"
            ) from error
        if response.is_success:
            found: dict[str, Any] = response.json()
            return found
        try:
            detail = str(response.json()["detail"])
        except (ValueError, KeyError):
            detail = f"the endpoint answered {response.status_code}"
        raise _BY_STATUS.get(response.status_code, PlatformError)(detail)
