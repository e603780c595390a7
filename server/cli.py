"""The `fewshot` command."""
