"""What is compared. An arm is a name and wishes: `eight: template=question-type demos=8 calibrate=batch`."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class ArmRefused(Exception):
    """An arm cannot be read; the message says what its wishes may be."""


@dataclass(frozen=True, slots=True)
class Arm:
    name: str
    wishes: Mapping[str, Any] = field(default_factory=dict)


def _yes(text: str) -> bool:
    return {"yes": True, "no": False, "true": True, "false": False}[text]


def _list(text: str) -> list[str]:
    return text.split(",")


Read = Callable[[str], Any]
LABELS: Mapping[str, Read] = {
    "model": str,
    "template": str,
    "demos": int,
    "scoring": str,
    "calibrate": str,
}
ANSWERS: Mapping[str, Read] = {
    "model": str,
    "template": str,
    "demos": int,
    "stores": _list,
    "top": int,
    "max_tokens": int,
    "temperature": float,
    "seed": int,
    "when_empty": str,
}


def read_arms(specs: Sequence[str], known: Mapping[str, Read], common: Mapping[str, Any]) -> list[Arm]:
    """The arms of the command line, or one of the `common` wishes alone. An arm's own wishes go first.

    Raises ArmRefused.
    """
    arms = []
    for spec in specs:
        name, colon, rest = spec.partition(":")
        if not colon or not name.strip():
            raise ArmRefused(f"{spec!r} must read like `eight: template=question-type demos=8`")
        wishes: dict[str, Any] = dict(common)
        for pair in shlex.split(rest):
            key, equals, value = pair.partition("=")
            if not equals or key not in known:
                raise ArmRefused(f"arm {name!r}: {pair!r} is none of {', '.join(f'{key}=' for key in known)}")
            try:
                wishes[key] = known[key](value)
            except (ValueError, KeyError):
                raise ArmRefused(f"arm {name!r}: {key} cannot be {value!r}") from None
        arms.append(Arm(name.strip(), wishes))
    if len({arm.name for arm in arms}) < len(arms):
        raise ArmRefused("two arms have the same name")
    return arms or [Arm("arm", dict(common))]
