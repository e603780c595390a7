"""What happens when a search ran and found nothing: answer, refuse or error.

The request decides; else its alias (which `wire/aliases.py` has written into the turn by now), else the
template, else it is `refuse`, or `answer` where the model has functions to ask. A search that failed never
comes here: it is a 503 under every policy.
"""

from prompts.layout import refusal_text
from prompts.records import Template, WhenEmpty
from server.errors import NoRelevantSources
from server.records import Turn

REFUSAL = "I could not find anything about this in the documents."


def policy_of(turn: Turn, template: Template) -> WhenEmpty:
    unsaid: WhenEmpty = "answer" if turn.calling.functions else "refuse"  # a function may still know
    return turn.wishes.when_empty or template.when_empty or unsaid


def said_instead(turn: Turn, template: Template, question: str, instructions: str | None) -> str | None:
    """What to answer without asking the model; None: let it answer without sources.

    The words are the request's or its alias's, else the template's, else REFUSAL.
    Raises NoRelevantSources under the policy `error`, and SlotProblem for the template's words.
    """
    policy = policy_of(turn, template)
    if policy == "error":
        raise NoRelevantSources(
            "nothing in the stores passed filter and threshold; ask differently, lower score_threshold, or "
            "set fewshot.when_empty to answer or refuse",
            param="fewshot.when_empty",
        )
    own_words = refusal_text(
        template, question=question, variables=turn.wishes.variables, instructions=instructions
    )
    return (turn.wishes.refusal_text or own_words or REFUSAL) if policy == "refuse" else None
