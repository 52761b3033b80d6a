"""One inference of the Open Inference Protocol, over whatever: a request in, an answer out."""

from __future__ import annotations

from motoric.artefact.predictor import CLIPS, PRESENT, WINDOWS
from motoric.core.errors import TooLargeError
from motoric.serving.bodies.examples import rows_of
from motoric.serving.context import ServingContext
from motoric.serving.open_inference.request import InferAnswer, InferRequest, build_answer
from motoric.serving.served import ServedModel


async def infer(context: ServingContext, served: ServedModel, request: InferRequest) -> InferAnswer:
    """Run a request in a batch with others.

    Args:
        context: Of the replica.
        served: The version whose description the request was read with.
        request: What is asked.

    Raises:
        TooLargeError: There are more examples than a request may have.
        DeadlineError: It was not its turn before its deadline.
        MotoricError: The model gave NaN.
    """
    inputs = request.inputs
    num = len(next(iter(inputs.values())))
    most = context.limits.max_request_windows
    if num > most:
        raise TooLargeError(
            f"{num} examples were sent, and a request may have {most}: send them in several"
            " requests"
        )
    rows = rows_of(served.signature, inputs.get(WINDOWS), inputs.get(CLIPS), inputs.get(PRESENT))
    deadline_s = context.deadline_s(request.timeout_s)
    return build_answer(request, served.spec, await served.batcher.submit(rows, deadline_s))
