"""Text and choice: wording, worked examples and one token budget become the prompt a model reads.

Pure: the standard library, Jinja2 and numpy. Model work comes in through the callables of `prompts.seams`.
"""
