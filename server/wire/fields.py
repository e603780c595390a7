"""Every request field, in one of three classes. A test walks the openai client's types against this table.

    H  honoured
    I  accepted and ignored, because its allowed values cannot change the answer; other values are refused
    R  refused: 400 unsupported_parameter naming the field

Names are paths with `[]` for any position. What the table does not name is unknown, which is refused too
(or skipped and reported, when the operator says so; fields of class R never are).
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal

Class = Literal["H", "I", "R"]


def _all(kind: Class, names: str) -> dict[str, Class]:
    return dict.fromkeys(names.split(), kind)


_SHARED: Mapping[str, Class] = {
    **_all("H", "model temperature top_p frequency_penalty presence_penalty seed stop n logit_bias logprobs"),
    **_all("H", "max_tokens stream stream_options user safety_identifier metadata fewshot"),
    **_all("H", "top_k min_p repetition_penalty ignore_eos"),
    **_all("H", "stream_options.include_usage stream_options.continuous_usage_stats"),
    **_all("I", "stream_options.include_obfuscation service_tier parallel_tool_calls max_tool_calls include"),
    **_all("I", "prompt_cache_key prompt_cache_retention prompt_cache_options"),
    **_all("I", "prompt_cache_options.mode prompt_cache_options.ttl"),
    **_all("R", "prompt_cache_options.prewarm prompt_cache_options.comparison_response_id"),
    **_all("R", "chat_template documents cache_salt priority prompt_embeds image_embeds prompt_logprobs"),
    **_all("R", "min_tokens stop_token_ids use_beam_search guided_* structured_outputs mm_processor_kwargs"),
    **_all("R", "add_generation_prompt continue_final_message fewshot.arm"),
}

CHAT: Mapping[str, Class] = {
    **_SHARED,
    **_all(
        "H", "parallel_tool_calls messages[].tool_calls messages[].tool_call_id tools[].type tools[].function"
    ),
    **_all("H", "tools[].function.name tools[].function.description tools[].function.parameters"),
    **_all("H", "messages[].tool_calls[].id messages[].tool_calls[].type messages[].tool_calls[].function"),
    **_all("I", "tools[].function.strict messages[].tool_calls[].index"),
    **_all("R", "tool_choice.allowed_tools tool_choice.custom"),
    **_all("H", "messages messages[].role messages[].content"),
    **_all("H", "max_completion_tokens top_logprobs response_format tools tool_choice"),
    **_all("H", "chat_template_kwargs chat_template_kwargs.enable_thinking"),
    **_all("R", "chat_template_kwargs.*"),
    **_all("I", "store reasoning_effort verbosity modalities"),
    **_all("I", "messages[].refusal messages[].annotations messages[].fewshot messages[].name"),
    **_all("R", "messages[].function_call messages[].audio"),
    **_all("H", "tools[].filters tools[].ranking_options.hybrid_search tools[].max_results_per_file"),
    **_all("R", "tools[].custom"),
    **_all("R", "audio prediction web_search_options moderation functions function_call echo"),
}

COMPLETIONS: Mapping[str, Class] = {
    **_SHARED,
    **_all("H", "prompt echo best_of"),
    **_all("R", "suffix response_format chat_template_kwargs"),
}

RESPONSES: Mapping[str, Class] = {
    **_all("H", "model input instructions previous_response_id prompt tools tool_choice include"),
    **_all("H", "max_output_tokens temperature top_p top_logprobs metadata stream user safety_identifier"),
    **_all("H", "text text.format seed stop top_k min_p repetition_penalty truncation store fewshot"),
    **_all("H", "chat_template_kwargs chat_template_kwargs.enable_thinking"),
    **_all("H", "prompt.id prompt.version prompt.variables"),
    **_all("H", "input[].type input[].role input[].content"),
    **_all("H", "input[].call_id input[].name input[].arguments input[].output parallel_tool_calls"),
    **_all("H", "tools[].type tools[].name tools[].description tools[].parameters"),
    **_all("I", "input[].id input[].status input[].phase input[].queries input[].results"),
    **_all("I", "tools[].strict tools[].defer_loading"),
    **_all("R", "tools[].async tools[].allowed_callers tools[].output_schema"),
    **_all("R", "input[].async input[].caller input[].namespace"),
    **_all("I", "background reasoning reasoning.effort text.verbosity service_tier"),
    **_all("I", "max_tool_calls prompt_cache_key prompt_cache_retention prompt_cache_options"),
    **_all("I", "prompt_cache_options.mode prompt_cache_options.ttl"),
    **_all("I", "stream_options stream_options.include_obfuscation"),
    **_all("R", "prompt_cache_options.prewarm prompt_cache_options.comparison_response_id"),
    **_all("R", "conversation background_options context_management moderation access_programs image"),
    **_all("R", "reasoning.context reasoning.generate_summary reasoning.mode reasoning.summary"),
    **_all("R", "chat_template_kwargs.* tools[].function tools[].custom fewshot.arm"),
    **_all("R", "n max_tokens logit_bias frequency_penalty presence_penalty ignore_eos messages"),
}

FEEDBACK: Mapping[str, Class] = _all("H", "id metric value choice comment")
EXPERIMENT_DECISIONS: Mapping[str, Class] = _all("H", "arm reason force")

EMBEDDINGS: Mapping[str, Class] = {
    **_all("H", "input model encoding_format dimensions fewshot fewshot.input_type"),
    **_all("I", "user"),
}

CLASSIFY: Mapping[str, Class] = _all(
    "H", "input model template variables demos scoring calibrate unit user metadata"
)

FILES: Mapping[str, Class] = {
    **_all("H", "file purpose expires_after expires_after.anchor expires_after.seconds"),
}

STORES: Mapping[str, Class] = {
    **_all("H", "name description file_ids chunking_strategy expires_after metadata"),
    **_all("H", "expires_after.anchor expires_after.days fewshot fewshot.embedding_model"),
}

STORE_CHANGES: Mapping[str, Class] = _all(
    "H", "name expires_after metadata expires_after.anchor expires_after.days"
)

STORE_FILES: Mapping[str, Class] = {
    **_all("H", "file_id attributes chunking_strategy fewshot fewshot.replaces"),
}

STORE_FILE_CHANGES: Mapping[str, Class] = _all("H", "attributes")

FILE_BATCHES: Mapping[str, Class] = {
    **_all("H", "file_ids files attributes chunking_strategy"),
    **_all("H", "files[].file_id files[].attributes files[].chunking_strategy"),
}

STORE_SEARCH: Mapping[str, Class] = {
    **_all("H", "query filters max_num_results ranking_options search_mode max_results_per_file"),
    **_all("H", "ranking_options.ranker ranking_options.score_threshold ranking_options.hybrid_search"),
    **_all("I", "rewrite_query"),
}

MCP_SEARCH: Mapping[str, Class] = _all("H", "query vector_store_ids max_num_results filters")

MCP_ASK: Mapping[str, Class] = _all("H", "question vector_store_ids model max_tokens")
ADAPTERS: Mapping[str, Class] = _all("H", "name version inbox")
NO_FIELDS: Mapping[str, Class] = {}
UNLOAD: Mapping[str, Class] = _all("H", "drain_seconds")
PROMOTE: Mapping[str, Class] = _all("H", "alias reason")
ROLLBACK: Mapping[str, Class] = _all("H", "alias reason")
LOAD_LORA: Mapping[str, Class] = {
    **_all("H", "lora_name lora_path"),
    **_all("I", "load_inplace is_3d_lora_weight"),  # only false: other weights under one name would be stale
}
UNLOAD_LORA: Mapping[str, Class] = {**_all("H", "lora_name"), **_all("I", "lora_int_id")}

# Fields that are honoured, but not with the values that ask for what is not offered.
CHOSEN = frozenset(
    {
        "messages[].role",
        "messages[].content[].type",
        "input[].type",
        "input[].content[].type",
        "tools[].type",
        "tool_choice.type",
        "purpose",
    }
)


def class_of(table: Mapping[str, Class], path: str) -> Class | None:
    """The class of a path such as `messages[].name`; None when the table does not know it."""
    if path in table:
        return table[path]
    for pattern, kind in table.items():
        if "*" in pattern and fnmatchcase(path, pattern):
            return kind
    return None


def is_choice_of_features(table: Mapping[str, Class], path: str) -> bool:
    """Whether a bad value here asks for something that exists elsewhere but not on this server."""
    return path in CHOSEN or class_of(table, path.removesuffix("[]")) == "I"
