"""The streamed requests of workload W2: fixed text, a question, and the store that is searched for it."""

from typing import Literal

from bench.client import post
from bench.library import STORE
from bench.workloads import WORDS

TOP = 5  # passages in the prompt
FIXED_WORDS = 590  # W2: 600 static tokens


def grounded(model: str, question: str, tokens: int, mode: Literal["hybrid", "vector"] = "hybrid") -> bytes:
    """For exactly `tokens` tokens."""
    fixed = " ".join(WORDS[at % len(WORDS)] for at in range(FIXED_WORDS))
    search = {
        "type": "file_search",
        "vector_store_ids": [STORE],
        "max_num_results": TOP,
        "search_mode": mode,
    }
    return post(
        "/v1/chat/completions",
        {
            "model": model,
            "messages": [{"role": "system", "content": fixed}, {"role": "user", "content": question}],
            "tools": [search],
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    )
