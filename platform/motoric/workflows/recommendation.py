"""What is recommended: a recipe in the making, and the checked one with its reasons."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from motoric.training.recipe import Recipe

Protocol = Literal["group_k_fold", "leave_one_out"]

_LINE = 98


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a setting has its value; `setting` is its path in the recipe, such as `window.hop_s`."""

    setting: str
    value: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A proposed recipe.

    Attributes:
        recipe: Checked.
        content: What is proposed; all else of the recipe is left at its default.
        reasons: One for each setting or part, in the order of the recipe.
        cautions: What a person should know beside them.
        protocol: How to evaluate it.
        num_examples: Estimated windows or clips.
    """

    recipe: Recipe
    content: Mapping[str, Any]
    reasons: tuple[Reason, ...]
    cautions: tuple[str, ...]
    protocol: Protocol
    num_examples: int

    def to_yaml(self) -> str:
        """What is proposed, with the reasons as comments."""
        lines = []
        for caution in self.cautions:
            lines += _comment(f"Note: {caution}")
        for key, value in self.content.items():
            for reason in self.reasons:
                if reason.setting.partition(".")[0] == key:
                    lines += _comment(f"{reason.setting}: {reason.why}")
            lines.append(yaml.safe_dump({key: value}, sort_keys=False, width=_LINE).rstrip())
        return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _LINE, initial_indent="# ", subsequent_indent="#   ")


@dataclass(slots=True, kw_only=True)
class Plan:
    """A recipe in the making."""

    content: dict[str, Any] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    def set(self, path: str, value: Any, why: str) -> None:
        """Set a value or a part, and say why."""
        place = self.content
        *parents, last = path.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
        shown = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True)
        shown = shown.strip().removesuffix("...").strip()
        self.reasons.append(Reason(setting=path, value=shown, why=why))
