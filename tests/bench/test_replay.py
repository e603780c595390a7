"""The measurement of replays, without a model; and what counts as explained."""

import json

import pytest
from click.testing import CliRunner

from bench.replay import PACK, explained, main
from server.records import Limits
from server.replay import Difference, Reason, Record, Said
from server.replaying import Replay


def test_every_way_of_asking_is_recorded_and_replayed(tmp_path):
    pack = tmp_path / PACK
    (pack / "dev").mkdir(parents=True)
    rows = [{"id": str(number), "text": f"Text number {number} about tea."} for number in range(9)]
    (pack / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (pack / "dev" / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = CliRunner().invoke(main, ["--data", str(tmp_path), "--answers", "16", "--echo"])
    assert done.exit_code == 0, done.output
    counts, verdict = done.stdout.splitlines()[-2:]
    assert json.loads(counts)["grounded, drawn"] == json.loads(counts)["raw, greedy"] == 2
    assert verdict == "1.0000 of 16 answers identical when replayed alone; must 0.99"


def different(*, temperature=0.0, others=3, tie=True):
    known = dict.fromkeys(Record.__dataclass_fields__)
    known |= {"id": "chatcmpl-1", "others": others, "cached_tokens": 0}
    known |= {"limits": Limits(max_tokens=3, temperature=temperature)}
    reasons = (Reason("tie", "", True),) if tie else ()
    said = (Said((1, 3), "ac", "stop"),)
    return Replay(
        record=Record(**known),
        replayed=said,
        reasons=reasons,
        difference=Difference(0, 1, 1, 2, 3),
        log_probabilities=(-0.7, -0.7),
    )


@pytest.mark.parametrize(
    ("about", "again", "verdict"),
    [
        ({}, {}, "rounding"),
        ({"temperature": 0.8, "tie": False}, {}, "rounding"),
        ({"others": 0}, {}, "unexplained"),  # nothing was beside it
        ({"tie": False}, {}, "unexplained"),  # greedy, and one token was clearly the better
        ({}, {"replayed": (Said((1, 9), "ad", "stop"),)}, "unexplained"),  # alone it does not repeat itself
    ],
)
def test_a_difference_is_explained_by_rounding_only_where_that_can_have_made_it(about, again, verdict):
    from dataclasses import replace

    done = different(**about)
    assert explained("chat, greedy", done, [done, replace(done, **again)]).startswith(verdict + ":")
