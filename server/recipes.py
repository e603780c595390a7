"""How a request is served: an arm with its wording, and whether the request counts for an experiment."""

from dataclasses import dataclass, field, replace
from typing import TypeVar

from prompts.experiment_records import Arm, Retrieval
from prompts.records import DemoPolicy, Sampling, Template

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """An arm with everything it names looked up: nothing is left to fetch when a request comes."""

    experiment: str
    arm: str
    template: Template  # with the arm's worked examples, policies and sampling in the place of its own
    retrieval: Retrieval = field(default_factory=Retrieval)
    adapter: str = ""  # name@version; "": whatever model the request names

    @property
    def reference(self) -> str:
        return f"{self.experiment}/{self.arm}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """What a request met. Without a recipe it is served as it came."""

    recipe: Recipe | None = None
    assigned: bool = False  # it counts for the experiment; else the recipe is merely the default
    phase: int | None = None
    propensity: float | None = None  # of the arm, for this unit
    slice: bool = False  # of the uniform slice
    unit: str | None = None  # of the experiment's kind; None: the request's own
    unit_kind: str | None = None
    served: str | None = None  # experiment/arm whose recipe made the prompt: not the one met, if that failed
    fallback: Recipe | None = None  # served when the recipe fails, and counted for the arm all the same

    @property
    def arm(self) -> str:
        """`experiment/arm`, or `none`."""
        return self.recipe.reference if self.recipe else "none"


NOBODY = Meeting()


def recipe_of(experiment: str, arm: Arm, template: Template, static: Template | None = None) -> Recipe:
    """The arm over its template; `static` is the template with the arm's own fixed examples, if any."""
    shown = static or template
    dynamic = arm.dynamic or template.dynamic
    if arm.pool is not None:
        dynamic = replace(dynamic, pool=arm.pool)
    return Recipe(
        experiment=experiment,
        arm=arm.name,
        adapter=arm.adapter,
        template=replace(
            shown,
            dynamic=_bounded(dynamic),
            sampling=_merged(arm.sampling, template.sampling),
            retrieval_top=_first(arm.retrieval.top, template.retrieval_top),
        ),
        retrieval=arm.retrieval,
    )


def _bounded(policy: DemoPolicy) -> DemoPolicy:
    """`none` shows none, whatever count stands beside it; without a count, listed ids are all shown."""
    return replace(policy, count=0 if policy.strategy == "none" else policy.count or len(policy.ids))


def _merged(own: Sampling, usual: Sampling) -> Sampling:
    return Sampling(
        temperature=_first(own.temperature, usual.temperature),
        top_p=_first(own.top_p, usual.top_p),
        repetition_penalty=_first(own.repetition_penalty, usual.repetition_penalty),
        max_tokens=_first(own.max_tokens, usual.max_tokens),
    )


def _first(own: T | None, usual: T | None) -> T | None:
    return usual if own is None else own
