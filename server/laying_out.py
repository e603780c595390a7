"""From hits to the prompt's checked ids: where the search's thread can do it, without another hand-over."""

from dataclasses import dataclass
from typing import NamedTuple

from indexer.records import Hits
from prompts.budget import prompt_room
from prompts.demos import Picked
from prompts.layout import lay_out
from prompts.records import Prompt, Template
from server.demonstrations import NONE
from server.drafts import Split
from server.profile import ModelProfile
from server.records import Turn
from server.retrieval import as_sources
from server.token_reading import Checked, Rereading


class Laid(NamedTuple):
    """A prompt that fits, and its ids."""

    prompt: Prompt
    checked: Checked


class Found(NamedTuple):
    """What a search found, when (by `time.perf_counter`), and the prompt where it was laid out at once."""

    hits: Hits
    at: float
    laid: Laid | None = None


@dataclass(frozen=True, slots=True)
class LayingOut:
    """Everything of a prompt but what is searched and picked for its question."""

    turn: Turn
    template: Template
    spoken: Split
    profile: ModelProfile
    reading: Rereading

    def __call__(self, hits: Hits, picked: Picked = NONE) -> Laid:
        """Raises what `lay_out` raises, and ControlText."""
        turn, template, profile = self.turn, self.template, self.profile
        instructions, history, question, following = self.spoken
        prompt = lay_out(
            template,
            question=question,
            demos=picked.demos,
            demo_scores=picked.scores,
            sources=as_sources(hits.hits),
            history=history,
            following=following,
            variables=turn.wishes.variables,
            instructions=instructions,
            room=prompt_room(profile.context_tokens, turn.max_tokens, template.budget.reserve),
            count=self.reading,
            special_tokens=profile.special_tokens,
        )
        return Laid(prompt, self.reading.checked(prompt.messages))
