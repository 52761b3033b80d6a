"""A developer's program with the unmodified tritonclient over gRPC, run in a process of its own.

    python triton_grpc.py HOST:PORT MODEL WINDOWS.npy ANSWER.npz [APPLICATION]

tritonclient.grpc brings messages of the same names as Motoric's: it cannot be imported in the
process of the tests. The key is in MOTORIC_API_KEY. Prints what the server says as JSON.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import tritonclient.grpc as triton
from google.protobuf.json_format import MessageToDict


def main(url: str, model: str, windows_path: str, answer_path: str, *application: str) -> None:
    windows = np.load(windows_path)
    headers = {"authorization": f"Bearer {os.environ['MOTORIC_API_KEY']}"}
    routed = {"application": application[0]} if application else {}
    headers |= routed
    client = triton.InferenceServerClient(url)
    said = {
        "live": client.is_server_live(headers=routed),
        "ready": client.is_server_ready(headers=routed),
        "model_ready": client.is_model_ready(model, headers=headers),
        "server": client.get_server_metadata(headers=headers, as_json=True),
        "model": client.get_model_metadata(model, headers=headers, as_json=True),
    }
    windows_input = triton.InferInput("windows", list(windows.shape), "FP32")
    windows_input.set_data_from_numpy(windows)
    result = client.infer(
        model, [windows_input], request_id="7", headers=headers, timeout=20_000_000
    )
    response = result.get_response()
    said["answered"] = {"id": response.id, "version": response.model_version}
    said["outputs"] = [
        {"name": item.name, "datatype": item.datatype, **MessageToDict(item)}
        for item in response.outputs
    ]
    np.savez(
        answer_path,
        probabilities=result.as_numpy("probabilities"),
        label=result.as_numpy("label").astype(str),
    )
    said["refused"] = {
        "no key": refusal(client, model, windows_input, routed),
        "wrong key": refusal(
            client, model, windows_input, {**routed, "authorization": "Bearer mk_0_x"}
        ),
        "other model": refusal(client, "nope", windows_input, headers),
        "traversal": refusal(client, "../platform", windows_input, headers),
        "other version": refusal(client, model, windows_input, headers, model_version="99"),
    }
    print(json.dumps(said))


def refusal(client, model, sent, headers, **options) -> list[str]:
    try:
        client.infer(model, [sent], headers=headers, **options)
    except triton.InferenceServerException as error:
        return [error.status(), error.message()]
    return ["answered", ""]


if __name__ == "__main__":
    main(*sys.argv[1:])
