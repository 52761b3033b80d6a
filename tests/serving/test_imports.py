from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "mlflow", "sklearn", "matplotlib", "sqlalchemy", "scipy", "onnx")


def test_a_replica_imports_nothing_heavy():
    program = (
        f"import sys, motoric.serving.model_app; print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_server_of_a_model_needs_neither_ray_nor_fastapi():
    names = ("ray", "fastapi", "starlette", *HEAVY)
    program = (
        f"import sys, motoric.serving.model_server; print([m for m in {names} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["model_app", "platform_app"])
def test_serve_gets_the_class_of_a_builders_argument(name):
    # Serve passes a plain dictionary, unvalidated, where the annotation is a string.
    program = (
        f"import inspect; from motoric.serving.{name} import build; "
        "(p,) = inspect.signature(build).parameters.values(); print(inspect.isclass(p.annotation))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "True"
