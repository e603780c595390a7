"""What the body alone cannot tell: a request held against the served model and the chosen template."""

from prompts.records import Template
from server.errors import InvalidValue, UnsupportedParameter
from server.profile import ModelProfile
from server.records import Turn


def check_against_model(turn: Turn, profile: ModelProfile, *, echo_logprobs: bool) -> None:
    """Raises InvalidValue or UnsupportedParameter naming the field."""
    if bad := [token for token in turn.logit_bias if token >= profile.vocabulary]:
        raise InvalidValue(
            f"token {bad[0]} is outside this model's vocabulary of {profile.vocabulary}; ids of another "
            "tokenizer (tiktoken) mean other words here",
            param="logit_bias",
        )
    for prompt in turn.prompts:
        if not isinstance(prompt, str) and any(token >= profile.vocabulary for token in prompt):
            raise InvalidValue(
                f"a token id is outside this model's vocabulary of {profile.vocabulary}", param="prompt"
            )
    if turn.echo and turn.logprobs is not None and not echo_logprobs:
        raise UnsupportedParameter("echo with logprobs is switched off on this server", param="echo")
    if turn.search.required and not turn.search.stores:
        raise InvalidValue("tool_choice requires a search, but no store is named", param="tool_choice")


def check_calls(turn: Turn, tool_parser: str | None) -> None:
    """Raises InvalidValue when nothing can tell this model's calls from its words."""
    if turn.calling.parsed and tool_parser is None:
        raise InvalidValue(
            "this server does not know how its model writes calls, so it cannot leave them to the model: the "
            "operator sets engine.tool_parser (hermes, llama3_json, …); until then, tool_choice must be "
            "required, name a function, or be none",
            param="tool_choice",
        )


def check_against_template(turn: Turn, template: Template, instructions: str | None) -> None:
    """Raises InvalidValue when the request asks for what the template has no place for."""
    if turn.search.stores and not template.takes_sources:
        raise InvalidValue(
            f"template {template.reference} has no place for sources; use `grounded` or name no store",
            param="fewshot.template",
        )
    if instructions is not None and not template.takes_instructions:
        raise InvalidValue(
            f"template {template.reference} has no slot for your system message; leave it out, or use a "
            "template with a slot `instructions`",
            param="messages",
        )
    if turn.calls and template.layout.format == "plain":
        raise InvalidValue(
            f"template {template.reference} is one plain text, which has no place for functions; use a "
            "template of the format chat",
            param="tools",
        )
    if turn.wishes.demos and not template.takes_demos:
        raise InvalidValue(f"template {template.reference} has no place for demos", param="fewshot.demos")
