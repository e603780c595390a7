"""What can go wrong in this room. Messages name the thing and the way out.

PromptError
├── TemplateError
│   ├── TemplateInvalid    a file breaks the format; carries every problem
│   ├── UnknownTemplate    no such name or version; carries near names
│   └── RenderFailed       a part met a value it cannot show
├── SlotProblem            missing, unknown, unfit and over-long values, together
├── PromptTooLong          what may not give way exceeds the room
├── ControlText            a value smuggled a control token past neutralising
├── PoolError
│   └── PoolInvalid        a demonstration file breaks the format; carries every problem
├── SearchRefused          a search for wording cannot be run: its data overlap, or its budget is too small
├── CalibratorInvalid      a calibrator cannot be fitted, or its file breaks the format
└── ExperimentError
    ├── ExperimentInvalid  an experiment file breaks the format; carries every problem
    ├── ExperimentChanged  a running experiment was changed in a way that would spoil it
    ├── OutcomesInvalid    exported rows break the format; carries line numbers
    └── PlotsUnavailable   the library that draws is not installed
"""

from __future__ import annotations

from collections.abc import Sequence


class PromptError(Exception):
    """The root of everything this room raises."""


class TemplateError(PromptError):
    """A template cannot be used."""


class TemplateInvalid(TemplateError):
    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        super().__init__(_listed(f"template {where} is not usable", self.problems))


class UnknownTemplate(TemplateError):
    def __init__(self, wanted: str, near: Sequence[str]) -> None:
        self.wanted = wanted
        self.near = tuple(near)
        hint = f"near it: {', '.join(self.near)}" if self.near else "`fewshot prompts list` shows all"
        super().__init__(f"no template {wanted!r}; {hint}")


class RenderFailed(TemplateError):
    def __init__(self, part: str, reason: str) -> None:
        self.part = part
        super().__init__(f"part {part!r} cannot be rendered: {reason}")


class SlotProblem(PromptError):
    """Values that do not fit a template's slots, all of them at once."""

    def __init__(
        self,
        template: str,
        *,
        missing: Sequence[str] = (),
        unknown: Sequence[str] = (),
        too_long: Sequence[str] = (),
        unfit: Sequence[str] = (),
        declared: Sequence[str] = (),
    ) -> None:
        self.template = template
        self.missing = tuple(missing)
        self.unknown = tuple(unknown)
        self.too_long = tuple(too_long)
        self.unfit = tuple(unfit)
        kinds = (
            ("missing", missing),
            ("unknown", unknown),
            ("too long", too_long),
            ("of the wrong type", unfit),
        )
        said = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds if names)
        way_out = f"; its slots are {', '.join(declared)}" if unknown and declared else ""
        way_out = way_out or ("; it declares no slots" if unknown else "")
        super().__init__(f"values do not fit template {template}: {said}{way_out}")


class PromptTooLong(PromptError):
    def __init__(self, *, needed: int, room: int, largest: str) -> None:
        self.needed = needed
        self.room = room
        self.largest = largest
        super().__init__(
            f"the prompt needs {needed} tokens and the room is {room}, though all that may give way is gone; "
            f"the largest part is the {largest}: shorten it, or ask for a shorter completion"
        )


class ControlText(PromptError):
    def __init__(self, expected: int, found: int) -> None:
        self.expected = expected
        self.found = found
        super().__init__(
            f"a value turns into control tokens of this model ({found} in the prompt, {expected} expected); "
            "remove strings such as <|im_end|> from the request"
        )


class PoolError(PromptError):
    """A demonstration pool cannot be used."""


class PoolInvalid(PoolError):
    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        super().__init__(_listed(f"demonstrations {where} are not usable", self.problems))


class SearchRefused(PromptError):
    """A search for wording cannot be run as asked."""


class CalibratorInvalid(PromptError):
    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        super().__init__(_listed(f"calibrator {where} is not usable", self.problems))


class ExperimentError(PromptError):
    """An experiment cannot be used."""


class ExperimentInvalid(ExperimentError):
    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        super().__init__(_listed(f"experiment {where} is not usable", self.problems))


class ExperimentChanged(ExperimentError):
    def __init__(self, name: str, problems: Sequence[str]) -> None:
        self.name = name
        self.problems = tuple(problems)
        super().__init__(
            _listed(f"experiment {name} is running and cannot be changed like this", self.problems)
        )


class OutcomesInvalid(ExperimentError):
    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        super().__init__(_listed(f"outcomes {where} cannot be read", self.problems))


class PlotsUnavailable(ExperimentError):
    def __init__(self) -> None:
        super().__init__("plots need matplotlib: pip install 'fewshot[analysis]'")


def _listed(head: str, problems: Sequence[str]) -> str:
    return "\n".join([f"{head}:", *(f"- {problem}" for problem in problems)])
