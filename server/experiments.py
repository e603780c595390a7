"""Which recipe a request meets: a function of it and of what is in force, the same on every replica."""

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace

from prompts.experiment_records import Experiment, UnitKind
from prompts.experiments import assign
from prompts.records import Template
from server.enrolment import Enrolment
from server.recipes import NOBODY, Meeting, Recipe
from server.records import Turn

# Which of the ways to name a unit (openai-surface §10.4) name one of the kind an experiment asks for.
NAMED: Mapping[UnitKind, frozenset[str]] = {
    "user": frozenset({"unit", "safety_identifier", "user", "metadata", "header"}),
    "conversation": frozenset({"unit", "metadata"}),
    "request": frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An experiment that enrols units, with the recipe of each arm."""

    experiment: Experiment
    recipes: Mapping[str, Recipe]
    varies: frozenset[str]  # what a request may not set itself and still count
    enrolment: Enrolment | None = None  # a bandit's: weights move, units do not


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What is served now; replaced whole, so that no request sees half a change."""

    running: Running | None = None
    default: Recipe | None = None  # for whoever is in no experiment; None: requests as they come


@dataclass(slots=True)
class Experiments:
    """Read by every request, replaced by whoever follows the journal."""

    in_force: InForce = field(default_factory=InForce)

    def meet(self, turn: Turn) -> Meeting:
        """The recipe for this request, and whether it counts. Pure, with nothing stored but for bandits."""
        now = self.in_force
        default = now.default
        if default is None and now.running is None:
            return NOBODY
        if turn.base is not None or turn.wishes.template is not None or not _has_a_question(turn):
            return NOBODY  # an alias stands for a recipe of its own
        served = Meeting(recipe=default if default and has_place(default.template, turn) else None)
        running = now.running
        if running is None or turn.wishes.experiment == "off":
            return served
        experiment = running.experiment
        unit, kind = unit_of(experiment.unit, turn)
        if unit is None or running.varies & _set_by(turn):
            return served
        if not all(has_place(recipe.template, turn) for recipe in running.recipes.values()):
            return served  # decided alike for every arm, or the arms would get different requests
        met = assign(
            experiment, unit, running.enrolment.seen(turn.tenant, unit) if running.enrolment else None
        )
        if not met.enrolled:
            return served
        if running.enrolment is not None:
            running.enrolment.keep(turn.tenant, unit, met)
        falls_back = experiment.arm(met.arm).on_failure == "control" and met.arm != experiment.control
        return Meeting(
            recipe=running.recipes[met.arm],
            assigned=True,
            phase=met.phase,
            propensity=met.propensity,
            slice=met.slice,
            unit=unit,
            unit_kind=kind,
            fallback=running.recipes[experiment.control] if falls_back else None,
        )


def unit_of(kind: UnitKind, turn: Turn) -> tuple[str | None, str]:
    """The unit of this kind that the request names, and how it did; None: it names none."""
    if kind == "request":
        return turn.id, "request"
    if turn.unit and turn.unit_kind in NAMED[kind]:
        return turn.unit, turn.unit_kind
    if kind == "conversation" and turn.conversation:
        return turn.conversation, "conversation"
    return None, turn.unit_kind


def has_place(template: Template, turn: Turn) -> bool:
    """Whether everything the request brings finds its place in the wording."""
    if turn.search.stores and not template.takes_sources:
        return False
    if turn.wishes.demos and not template.takes_demos:
        return False
    if turn.calls and template.layout.format == "plain":
        return False
    if template.layout.format == "plain" and turn.calls:
        return False
    return template.takes_instructions or all(message.role != "system" for message in turn.messages)


def as_served(turn: Turn, recipe: Recipe) -> Turn:
    """The request with what the recipe says where it says nothing itself."""
    own = recipe.retrieval
    search = turn.search
    if own.store and not search.stores and not search.off and recipe.template.takes_sources:
        search = replace(search, stores=(own.store,))
    if own.rerank is not None:
        search = replace(search, rerank=search.rerank and own.rerank)
    return turn if search is turn.search else replace(turn, search=search)


def varied(recipes: Collection[Recipe]) -> frozenset[str]:
    """What the arms do differently, in the words of `_set_by`."""
    return frozenset(name for name, says in SAID.items() if len({says(recipe) for recipe in recipes}) > 1)


SAID: Mapping[
    str, Callable[[Recipe], Hashable]
] = {  # what a request may set itself → what a recipe says of it
    "stores": lambda recipe: recipe.retrieval.store,
    "top": lambda recipe: recipe.template.retrieval_top,
    "demos": lambda recipe: recipe.template.dynamic,
    "temperature": lambda recipe: recipe.template.sampling.temperature,
    "top_p": lambda recipe: recipe.template.sampling.top_p,
    "repetition_penalty": lambda recipe: recipe.template.sampling.repetition_penalty,
    "max_tokens": lambda recipe: recipe.template.sampling.max_tokens,
}


def _set_by(turn: Turn) -> frozenset[str]:
    asked = {
        "stores": bool(turn.search.stores),
        "top": turn.search.top is not None,
        "demos": turn.wishes.demos is not None,
        "temperature": turn.sampling.temperature is not None,
        "top_p": turn.sampling.top_p is not None,
        "repetition_penalty": turn.sampling.repetition_penalty is not None,
        "max_tokens": turn.max_tokens is not None,
    }
    return frozenset(name for name, is_set in asked.items() if is_set)


def _has_a_question(turn: Turn) -> bool:
    """A conversation that ends in one, or in what came of the calls it led to."""
    roles = [message.role for message in turn.messages]
    return "user" in roles and roles[-1] in ("user", "tool")
