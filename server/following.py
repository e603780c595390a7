"""Keeps what is served in step with the experiment files and with the journal that all replicas share."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from prompts.errors import ExperimentInvalid, PromptError, UnknownTemplate
from prompts.experiment_files import parse_experiment
from prompts.experiment_records import Arm, Experiment
from prompts.experiments import freeze
from prompts.templates import Library
from server.enrolment import Enrolment
from server.errors import InvalidValue
from server.evaluating import Evaluator
from server.experiment_book import Book
from server.experiment_log import ExperimentLog
from server.experiments import Experiments, InForce, Running, varied
from server.recipes import Recipe, recipe_of
from server.seams import Demos

log = logging.getLogger("fewshot.experiments")
FOLLOW_SECONDS = 1.0  # replicas follow a promotion within this and the time of one read
Signature = tuple[int, int]  # of a file: when it changed, and its size


class Follower:
    """Registers the files of a folder and puts in force what the journal says. Calls block."""

    def __init__(
        self,
        book: ExperimentLog,
        experiments: Experiments,
        library: Library,
        demos: Demos,
        folder: Path | None = None,
        *,
        has_adapter: Callable[[str], bool] = lambda _: False,
        enrolment: Callable[[str], Enrolment] | None = None,
    ) -> None:
        self._book = book
        self._experiments = experiments
        self._library = library
        self._demos = demos
        self._folder = folder
        self._has_adapter = has_adapter
        self._open_enrolment = enrolment  # by the name of an experiment; without it bandits are refused
        self._enrolment: tuple[str, Enrolment] | None = None
        self._seen: dict[Path, Signature] = {}
        self._refused: dict[Path, str] = {}
        self._version: tuple[int, int, int] | None = None
        self._one_at_a_time = threading.Lock()

    def start(self) -> None:
        """Read everything once.

        Raises ExperimentInvalid and ExperimentChanged for a file that cannot run, ExperimentInvalid for an
        arm in force that this replica cannot serve.
        """
        with self._one_at_a_time:
            for path in self._changed():
                self._register(path)
            self._follow()

    def refresh(self) -> None:
        """Look again. What is wrong is logged and leaves in force what was."""
        with self._one_at_a_time:
            for path in self._changed():
                try:
                    self._register(path)
                except (PromptError, OSError) as problem:
                    del self._seen[path]  # tried again: what stands in its way may end
                    if self._refused.get(path) != str(problem):
                        log.error("%s", problem)
                    self._refused[path] = str(problem)
            try:
                self._follow()
            except PromptError as problem:
                log.error("the journal names an arm that cannot be served here: %s", problem)

    def _changed(self) -> list[Path]:
        if self._folder is None:
            return []
        if not self._folder.is_dir():
            raise ExperimentInvalid(str(self._folder), ["there is no such folder (paths.experiments)"])
        found = {path: _signature(path) for path in sorted(self._folder.glob("*.toml"))}
        changed = [path for path, signature in found.items() if self._seen.get(path) != signature]
        self._seen = found
        return changed

    def _register(self, path: Path) -> None:
        content = path.read_bytes()
        experiment = parse_experiment(content, str(path), {one.reference for one in self._library})
        recipes = self._recipes(experiment)
        arms = tuple(freeze(arm, self._digests(arm, recipes[arm.name])) for arm in experiment.arms)
        if self._book.register(content.decode(), experiment, arms):
            log.warning("experiment %s: %s is in force, ramp %g", experiment.name, path.name, experiment.ramp)

    def _follow(self) -> None:
        if self._enrolment is not None:
            self._enrolment[1].refresh()
        if self._version == self._book.version():
            return
        book = self._book.read()
        self._experiments.in_force = self._in_force(book)
        self._version = book.version

    def _in_force(self, book: Book) -> InForce:
        running = book.running
        enrolling = None
        default = book.default and self._recipe(book, book.default)
        if running is not None:
            recipes = self._recipes(running.experiment)
            enrolling = Running(
                experiment=running.experiment,
                recipes=recipes,
                varies=varied(recipes.values()),
                enrolment=self._enrolled(running.experiment),
            )
            default = default or recipes[running.experiment.control]
        return InForce(running=enrolling, default=default or None)

    def _enrolled(self, experiment: Experiment) -> Enrolment | None:
        """Of a bandit: who was enrolled so far."""
        if experiment.mode != "thompson":
            self._enrolment = None
            return None
        if self._open_enrolment is None:
            raise ExperimentInvalid(
                experiment.name, ["mode = 'thompson' needs a journal that knows who was enrolled"]
            )
        if self._enrolment is None or self._enrolment[0] != experiment.name:
            self._enrolment = experiment.name, self._open_enrolment(experiment.name)
            self._enrolment[1].refresh()
        return self._enrolment[1]

    def _recipe(self, book: Book, reference: str) -> Recipe:
        name, _, arm = reference.partition("/")
        experiment = book.get(name).experiment
        return self._recipe_of(experiment, experiment.arm(arm))

    def _recipes(self, experiment: Experiment) -> Mapping[str, Recipe]:
        return {arm.name: self._recipe_of(experiment, arm) for arm in experiment.arms}

    def _recipe_of(self, experiment: Experiment, arm: Arm) -> Recipe:
        """Raises ExperimentInvalid for what this server does not have or cannot do."""
        problems = []
        if arm.adapter and not self._has_adapter(arm.adapter):
            problems.append(
                f"arms.{arm.name}.adapter: there is no adapter {arm.adapter}; see `fewshot adapters list`"
            )
        if arm.retrieval.generation:
            problems.append(
                f"arms.{arm.name}.retrieval.generation: searches are of the newest generation; leave it out"
            )
        if arm.pool and self._demos.sha256_of(arm.pool) is None:
            problems.append(f"arms.{arm.name}.pool: there is no {arm.pool} in the folder paths.pools")
        try:
            template = self._library.get(arm.template)
        except UnknownTemplate as problem:
            problems.append(f"arms.{arm.name}.template: {problem}")
        if problems:
            raise ExperimentInvalid(experiment.name, problems)
        if arm.static is None:
            return recipe_of(experiment.name, arm, template)
        try:
            demos = self._demos.fixed(replace(arm.static, pool=arm.static.pool or arm.pool))
        except InvalidValue as problem:
            raise ExperimentInvalid(experiment.name, [f"arms.{arm.name}: {problem}"]) from problem
        return recipe_of(experiment.name, arm, template, replace(template, demos=demos))

    def _digests(self, arm: Arm, recipe: Recipe) -> Mapping[str, str]:
        found = {"template": recipe.template.digest}
        if recipe.template.takes_demos:
            fixed = arm.static.pool if arm.static else None
            pools = {
                "pool": self._demos.sha256_of(arm.pool),
                "static_pool": fixed and self._demos.sha256_of(fixed),
            }
            found |= {name: digest for name, digest in pools.items() if digest}
        return found


@contextlib.asynccontextmanager
async def following(
    follower: Follower, evaluator: Evaluator | None = None, evaluate_seconds: float = 10.0
) -> AsyncGenerator[None]:
    """Refresh every second, and judge every `evaluate_seconds`, on threads, while the block lasts."""

    def judge() -> None:
        if evaluator is not None and evaluator.look() is not None:
            follower.refresh()  # harm ends at once

    tasks = [
        asyncio.create_task(_repeatedly(follower.refresh, FOLLOW_SECONDS)),
        asyncio.create_task(_repeatedly(judge, evaluate_seconds)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _repeatedly(work: Callable[[], None], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(work)
        except Exception as problem:  # a database that is busy for a moment must not end the following
            log.error("experiments: %s: %s", type(problem).__name__, problem)


def _signature(path: Path) -> Signature:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
