"""What every framework's arm shares; runs in the framework's own environment, without this project.

The first line of stdin is the job; every line after it asks all questions once, one after the other.
"""

import gc
import json
import sys
import time

SYSTEM = "Answer the question from the numbered sources."
HUMAN = "Sources:\n{context}\n\nQuestion: {question}"


def numbered(texts):
    return "\n\n".join(f"[{at}] {text}" for at, text in enumerate(texts, start=1))


def drive(build):
    """`build(job)` returns what answers a question: (text, its vector) -> (answer, ids of the sources)."""
    job = json.loads(sys.stdin.readline())
    ask = build(job)
    questions = [(one["text"], one["vector"]) for one in job["questions"]]
    for text, vector in questions[:3]:
        ask(text, vector)
    gc.freeze()
    say("ready")
    for _ in sys.stdin:
        seconds, told, began = [], [], time.process_time()
        for text, vector in questions:
            asked = time.perf_counter()
            told.append(ask(text, vector))
            seconds.append(time.perf_counter() - asked)
        spent = time.process_time() - began
        say({"seconds": seconds, "processor": spent, "told": told})


def say(what):
    print(json.dumps(what), flush=True)
