"""`motoric demo` as a user runs it: once from nothing, once more with what is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from motoric.cli.main import main
from motoric.cluster import local
from motoric.core.settings import Settings

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(
        importlib.util.find_spec("seglearn") is None,
        reason="the extra `demo` (seglearn) is not installed",
    ),
]


def test_the_demo_ends_with_equal_accuracy_and_reuses_what_it_made(
    own_settings: Settings, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["demo"]) == 0
    first = capfd.readouterr().out
    found = re.search(r"accuracy over HTTP ([0-9.]+)%, offline ([0-9.]+)%", first)
    assert found is not None
    assert found[1] == found[2]
    # Seven classes, people never seen: a broken part anywhere shows here.
    assert float(found[1]) > 80
    assert "0 predictions differ" in re.sub(r"\s+", " ", first)
    assert local.running(own_settings) is None

    assert main(["demo", "--reuse"]) == 0
    second = capfd.readouterr().out
    assert "reused, nothing changed since it was built" in second
    assert "reused version 1" in second
    assert "epoch" not in second
    assert local.running(own_settings) is None
