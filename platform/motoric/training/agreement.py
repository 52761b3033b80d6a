"""What workers tell one another besides gradients; of one worker alone, what it says itself.

Axes: W workers, N bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed

_TEXT_BYTES = 256


def is_shared() -> bool:
    """Whether there are other workers, joined by a process group of torch's."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def number_of_first(value: float, device: str) -> float:
    """The value that the first worker has."""
    if not is_shared():
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.broadcast(shared, src=0)
    return float(shared.item())


def text_of_first(text: str, device: str) -> str:
    """The text that the first worker has, of at most 256 bytes."""
    if not is_shared():
        return text
    content = text.encode().ljust(_TEXT_BYTES)
    assert len(content) == _TEXT_BYTES
    shared = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(device)
    distributed.broadcast(shared, src=0)
    return bytes(shared.cpu().tolist()).decode().rstrip()


def bytes_of_first(content: bytes, device: str) -> bytes:
    """What the first worker has, of any length."""
    if not is_shared():
        return content
    length = torch.tensor(len(content), device=device)
    distributed.broadcast(length, src=0)
    shared = torch.zeros(int(length.item()), dtype=torch.uint8, device=device)
    if content:
        shared = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(device)
    distributed.broadcast(shared, src=0)
    return shared.cpu().numpy().tobytes()


def rows_of_all(row_N: Tensor, device: str) -> Tensor:
    """One row of each worker, of the same length, on the CPU; shape (W, N)."""
    if not is_shared():
        return row_N[None].clone()
    rows = [torch.empty_like(row_N, device=device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(rows, row_N.to(device))
    return torch.stack(rows).cpu()
