"""The pool as the settings open it."""

import asyncio
import json

import pytest

from prompts.templates import SHIPPED, Library
from server.metrics import Metrics
from server.settings import SettingsRefused, load_settings
from server.wiring import open_parts

MOODS = {"pos": "a joy to see", "neg": "a chore to see"}


@pytest.fixture
def pool(tmp_path):
    """Twenty examples of each mood; the word for the topic is most of a text."""
    lines = [
        {"id": f"{mood}{at:02}", "input": f"{f'topic{at} ' * 6}{words}", "output": mood, "label": mood}
        for mood, words in MOODS.items()
        for at in range(20)
    ]
    file = tmp_path / "demos.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def moods_shown(pool, **demos):
    """The labels of four examples for a question of a known topic and of the positive mood."""
    settings = load_settings(
        environ={},
        overrides={
            "paths": {"data": pool.parent, "cache": pool.parent, "demos": pool},
            "engine": {"kind": "echo"},
            "retrieval": {"embedder": "hash"},
            "demos": demos,
        },
    )

    async def pick():
        async with open_parts(settings, Metrics()) as opened:
            template = Library.load().get("sentiment")
            return await opened.parts.demos.pick(f"{'topic3 ' * 6}{MOODS['pos']} now", 4, template)

    return [demo.label for demo in asyncio.run(pick()).demos]


def test_nearest_examples_go_by_the_labels_as_far_as_the_settings_say(pool):
    assert "neg" in moods_shown(pool, label_weight=0.0)
    assert moods_shown(pool, label_weight=0.95) == ["pos"] * 4


def test_examples_may_have_an_embedder_of_their_own(pool):
    assert moods_shown(pool, label_weight=0.95, embedder="hash", poolings=2) == ["pos"] * 4
    kept = json.loads(next((pool.parent / "pools").glob("*.json")).read_text())
    assert kept["embedder"].endswith("/2")


def static_template(folder, policy):
    shipped = (SHIPPED / "sentiment" / "1.toml").read_text()
    own = shipped.replace('name = "sentiment"', 'name = "mood"')
    own = own.replace("[fewshot]\n", f"[fewshot]\nstatic = {policy}\n")
    (folder / "mood").mkdir(parents=True)
    (folder / "mood" / "1.toml").write_text(own)
    return folder


def opened_with(pool, templates):
    settings = load_settings(
        environ={},
        overrides={
            "paths": {"data": templates.parent, "cache": templates.parent, "templates": templates}
            | ({"demos": pool} if pool else {}),
            "engine": {"kind": "echo"},
            "retrieval": {"embedder": "hash"},
        },
    )

    async def library():
        async with open_parts(settings, Metrics()) as opened:
            return opened.parts.library

    return asyncio.run(library())


def test_a_templates_static_examples_come_out_of_the_pool_once(pool, tmp_path):
    policy = '{ strategy = "balanced", count = 4, seed = 3 }'
    template = opened_with(pool, static_template(tmp_path / "own", policy)).get("mood")
    assert sorted(demo.label for demo in template.demos) == ["neg", "neg", "pos", "pos"]


def test_static_examples_without_a_pool_are_refused_at_the_start(tmp_path):
    templates = static_template(tmp_path / "own", '{ strategy = "random", count = 2 }')
    with pytest.raises(SettingsRefused, match="mood@1"):
        opened_with(None, templates)
