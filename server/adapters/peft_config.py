"""adapter_config.json against a closed list: engines drop what they do not know, so we refuse it instead.

Every field of peft 0.21 is here, with what may stand in it. Each refusal names the conversion.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from server.adapters.folder import CONFIG
from server.errors import InvalidValue, UnsupportedAdapterKind

LARGEST = 2**20  # bytes
Check = Callable[[Any], bool]


Served = Literal["lora", "soft-prompt", "prefix", "ia3"]


class PeftConfig(NamedTuple):
    kind: Served
    length: int  # rank, or number of virtual tokens; 0 of (IA)³
    said: Mapping[str, Any]


class Rule(NamedTuple):
    allows: Check
    otherwise: str  # the way out


def anything(_: Any) -> bool:
    return True


def empty(value: Any) -> bool:
    return value is None or value is False or value in ({}, [], "")


def whole(value: Any) -> bool:
    return type(value) is int and value > 0


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def mapping_of(check: Check) -> Check:
    """Keys must be plain ends of module names: engines match them as regular expressions."""

    def allows(value: Any) -> bool:
        if empty(value):
            return True
        return isinstance(value, dict) and all(
            re.fullmatch(r"[\w.]+", name) is not None and check(item) for name, item in value.items()
        )

    return allows


CONVERT = "train a plain LoRA, or convert it with peft.convert_to_lora"
FREE = Rule(anything, "")
COMMON: dict[str, Rule] = dict.fromkeys(
    ("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
     "inference_mode"),
    FREE,
)  # fmt: skip
LORA: dict[str, Rule] = {
    **COMMON,
    "r": Rule(whole, "it must be a whole number above 0"),
    "lora_alpha": Rule(number, "it must be a number above 0"),
    "lora_dropout": FREE,
    "target_modules": FREE,  # the tensors say which modules there are
    "exclude_modules": FREE,
    "layers_to_transform": FREE,
    "layers_pattern": FREE,
    "megatron_config": Rule(empty, "save the adapter without Megatron"),
    "megatron_core": FREE,
    "use_rslora": FREE,
    "rank_pattern": Rule(mapping_of(whole), "it must map ends of module names to whole numbers above 0"),
    "alpha_pattern": Rule(mapping_of(number), "it must map ends of module names to numbers above 0"),
    "bias": Rule(lambda value: value == "none", 'engines drop the bias: train with bias="none"'),
    "lora_bias": Rule(empty, "engines drop the bias: train with lora_bias=False"),
    "use_dora": Rule(empty, f"the engine knows no DoRA: {CONVERT}"),
    "use_qalora": Rule(empty, f"the engine knows no QALoRA: {CONVERT}"),
    "qalora_group_size": FREE,
    "use_bdlora": Rule(empty, f"the engine knows no BD-LoRA: {CONVERT}"),
    "init_lora_weights": Rule(
        lambda value: isinstance(value, bool) or str(value).lower() in ("gaussian", "eva", "orthogonal"),
        "this start changes the base's weights: save with path_initial_model_for_weight_conversion",
    ),
    "modules_to_save": Rule(
        lambda value: empty(value) or set(value) <= {"score", "classifier"},
        "whole modules are not served: train with modules_to_save=None and LoRA on those modules",
    ),
    "trainable_token_indices": Rule(empty, "train the tokens as a soft prompt instead"),
    "target_parameters": Rule(empty, "name target_modules instead"),
    "alora_invocation_tokens": Rule(empty, "the engine knows no activated LoRA: train a plain one"),
    "layer_replication": Rule(empty, "the engine replicates no layers: train without it"),
    "fan_in_fan_out": Rule(empty, "the base has no such layers: train with fan_in_fan_out=False"),
    "ensure_weight_tying": Rule(empty, "train with ensure_weight_tying=False"),
    **dict.fromkeys(
        ("loftq_config", "corda_config", "eva_config", "lora_ga_config", "velora_config", "monteclora_config",
         "arrow_config", "kasa_config"),
        Rule(empty, f"this variant is not served: {CONVERT}"),
    ),
}  # fmt: skip
VIRTUAL: dict[str, Rule] = {
    **COMMON,
    "num_virtual_tokens": Rule(whole, "it must be a whole number above 0"),
    "num_transformer_submodules": Rule(lambda value: value in (None, 1), "only decoders are served"),
    "modules_to_save": Rule(empty, "whole modules are not served: train with modules_to_save=None"),
    "prefix_projection": Rule(empty, "save the projected prefix: train with prefix_projection=False"),
    **dict.fromkeys(
        ("token_dim", "num_attention_heads", "num_layers", "prompt_tuning_init", "prompt_tuning_init_text",
         "tokenizer_name_or_path", "tokenizer_kwargs", "encoder_reparameterization_type",
         "encoder_hidden_size", "encoder_num_layers", "encoder_dropout", "init_weights",
         "num_frozen_tokens"),
        FREE,
    ),
}  # fmt: skip
SCALES: dict[str, Rule] = {
    **COMMON,
    "target_modules": FREE,  # the tensors say which modules there are, and which side of them is scaled
    "exclude_modules": FREE,
    "feedforward_modules": FREE,
    "init_ia3_weights": FREE,
    "fan_in_fan_out": Rule(empty, "the base has no such layers: train with fan_in_fan_out=False"),
    "modules_to_save": Rule(empty, "whole modules are not served: train with modules_to_save=None"),
}
TYPES: Mapping[str, tuple[Served, Mapping[str, Rule], str | None]] = {
    "LORA": ("lora", LORA, "r"),
    "IA3": ("ia3", SCALES, None),
    "PROMPT_TUNING": ("soft-prompt", VIRTUAL, "num_virtual_tokens"),
    "P_TUNING": ("soft-prompt", VIRTUAL, "num_virtual_tokens"),
    "PREFIX_TUNING": ("prefix", VIRTUAL, "num_virtual_tokens"),
    "CARTRIDGE": ("prefix", VIRTUAL, "num_virtual_tokens"),
}

NEEDED: Mapping[Served, tuple[str, ...]] = {
    "lora": ("r", "lora_alpha", "target_modules"),
    "ia3": ("target_modules",),
    "soft-prompt": ("num_virtual_tokens",),
    "prefix": ("num_virtual_tokens",),
}


def read_peft_config(text: bytes) -> PeftConfig:
    """Raises InvalidValue naming field and way out, UnsupportedAdapterKind for a method not served."""
    try:
        said = json.loads(text) if len(text) <= LARGEST else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise InvalidValue(f"{CONFIG} is not a JSON object of less than {LARGEST} bytes", param=CONFIG)
    kind = str(said.get("peft_type"))
    if kind not in TYPES:
        raise UnsupportedAdapterKind(
            f"{CONFIG}: the method {kind[:64]!r} cannot be served; there are {', '.join(TYPES)}. Others "
            "become a LoRA with peft.convert_to_lora",
            param=f"{CONFIG}.peft_type",
        )
    served, rules, length = TYPES[kind]
    for field, value in said.items():
        rule = rules.get(field)
        if rule is None and value is not None:
            raise InvalidValue(
                f"{CONFIG}: the field {field[:64]!r} is not known here, and engines would drop it silently; "
                "remove it, or train without it",
                param=f"{CONFIG}.{field[:64]}",
            )
        if rule is not None and not rule.allows(value):
            raise InvalidValue(
                f"{CONFIG}: {field} = {json.dumps(value)[:100]} is not served: {rule.otherwise}",
                param=f"{CONFIG}.{field}",
            )
    for field in NEEDED[served]:
        if said.get(field) is None:
            raise InvalidValue(
                f"{CONFIG}: {field} is missing, and the engine needs it; save the adapter with peft",
                param=f"{CONFIG}.{field}",
            )
    return PeftConfig(served, said[length] if length else 0, said)
