"""Turns written straight into a journal, as a server would have: months of traffic in a second."""

import json
import random

import sqlalchemy as sa

from prompts.experiments import assign
from server.schema import exposures, feedback, plans, replies


def logged(engine, experiment, *, start, users, solved, slow=None, lost=None, apart=1.0, seed=1, first=0):
    """One to three turns of each user, by rates of each arm; `lost`: share of its exposures never logged."""
    rng = random.Random(seed)
    rows = {table: [] for table in (exposures, plans, replies, feedback)}
    for number in range(first, first + users):
        user = f"user-{number}"
        met = assign(experiment, user)
        if not met.enrolled or rng.random() < (lost or {}).get(met.arm, 0.0):
            continue
        for turn in range(rng.randint(1, 3)):
            key, at = f"chatcmpl-{number}-{turn}", start + (number - first) * apart + turn * 0.1
            rows[exposures].append(
                {
                    "turn": key,
                    "at": at,
                    "tenant": "t",
                    "unit": user,
                    "unit_kind": "user",
                    "model": "echo",
                    "experiment": experiment.name,
                    "arm": met.arm,
                    "phase": met.phase,
                    "propensity": met.propensity,
                    "slice": met.slice,
                    "metadata": "{}",
                }
            )
            rows[plans].append(
                {
                    "turn": key,
                    "at": at,
                    "base": "echo",
                    "base_sha256": "b",
                    "fingerprint": "f",
                    "template": "plain@1",
                    "template_sha256": "c",
                    "demos": "[]",
                    "chunks": "[]",
                    "generations": "{}",
                    "dropped": "{}",
                    "grounding": "not_requested",
                    "limits": json.dumps({"n": 1, "temperature": 0.0}),
                    "prompt_sha256": "d",
                    "prompt_tokens": 20,
                    "served": f"{experiment.name}/{met.arm}",
                    "variables": "{}",
                    "messages": json.dumps([{"role": "user", "text": f"Question {number}"}]),
                    "asked": json.dumps([{"role": "user", "text": f"Question {number}"}]),
                }
            )
            ttft = 0.9 if rng.random() < (slow or {}).get(met.arm, 0.02) else 0.1
            rows[replies].append(
                {
                    "turn": key,
                    "at": at,
                    "outcome": "stop",
                    "completion_tokens": 9,
                    "cached_tokens": 5,
                    "cited": "[]",
                    "citations_dropped": 0,
                    "first_token_seconds": ttft,
                    "total_seconds": 1.0,
                    "texts": json.dumps([f"Answer {number} {met.arm}"]),
                    "texts_sha256": "e",
                }
            )
            good = rng.random() < solved[met.arm]
            rows[feedback].append(
                {
                    "id": f"fb-{key}",
                    "at": at + 0.05,
                    "turn": key,
                    "giver": "k",
                    "choice": 0,
                    "metric": "thumb",
                    "value": json.dumps(good),
                    "late": False,
                }
            )
    with engine.begin() as connection:
        for table, values in rows.items():
            if values:
                connection.execute(sa.insert(table), values)
    return rows
