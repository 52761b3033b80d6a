"""Triton by nvidia-pytriton: its HTTP front in C++, the model in this process behind a batcher."""

import numpy as np
from gru import MAX_BATCH, NUM_CHANNELS, NUM_SAMPLES, PORT, Gru, Probabilities, Windows
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

gru = Gru()


@batch
def infer(windows: Windows) -> dict[str, Probabilities]:
    """Run one batch."""
    return {"probabilities": gru.run(windows)}


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=PORT,
        allow_grpc=False,
        allow_metrics=False,
        http_thread_count=1,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="gru",
            infer_func=infer,
            inputs=[Tensor(name="windows", dtype=np.float32, shape=(NUM_SAMPLES, NUM_CHANNELS))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(
                max_batch_size=max(MAX_BATCH, 64),
                batcher=DynamicBatcher(max_queue_delay_microseconds=500),
            ),
            strict=False,
        )
        triton.serve()
