"""`fewshot replay`: what an answer was made from, and whether it comes out the same again."""

import json
from collections.abc import Mapping
from typing import Any

import click
import httpx

from server.reaching import checked, server_for
from server.settings import Settings

NEUTRAL = {  # values that change nothing are not worth a line
    "top_k": -1,
    "min_p": 0,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "repetition_penalty": 1,
    "stop": [],
}
AROUND = 40  # characters of context shown where two texts part


@click.command()
@click.argument("answer_id", metavar="ID")
@click.option("--record", is_flag=True, help="Only show what was written down; decode nothing.")
@click.option("--url", help="Base URL of the server; default: server.host and server.port of the settings.")
@click.option("--key", envvar="FEWSHOT_API_KEY", default="none", help="API key (FEWSHOT_API_KEY).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the record and the replay.")
@click.pass_obj
def replay(
    settings: Settings, answer_id: str, record: bool, url: str | None, key: str, as_json: bool
) -> None:
    """Show what the answer ID was made from, decode it again, and say where the two differ and why.

    ID is that of any chat, completion or response: chatcmpl-…, cmpl-…, resp_…. The key needs the scope
    audit. Exit code 1 when the answer came out otherwise, 2 when there was nothing to compare.
    """
    with server_for(settings, url) as base, httpx.Client(timeout=settings.server.deadline_seconds) as client:
        client.headers["authorization"] = f"Bearer {key}"
        address = f"{base}/v1/replay/{answer_id}"
        shown = checked(client.get(address))
        again = None if record else checked(client.post(address))
    if as_json:
        click.echo(json.dumps(shown if again is None else {"record": shown, "replay": again}, indent=1))
    else:
        print_record(shown)
        if again is not None:
            print_replay(again)
    if again is not None and not again["identical"]:
        raise SystemExit(2 if again["identical"] is None else 1)


def print_record(record: Mapping[str, Any]) -> None:
    """What an answer was made from, a line a thing."""
    made_of, engine = record["fewshot"], record["engine"]
    template = made_of["template"]
    known = [str(engine.get(name, "?")) for name in ("name", "version", "device", "dtype")]
    used = made_of["sampling"].items()
    sampling = [f"{name} {value}" for name, value in used if name not in NEUTRAL or value != NEUTRAL[name]]
    lines = {
        "outcome": record["outcome"] or "no reply was written down",
        "model": f"{made_of['model']['base']} {made_of['model']['base_sha256'][:12]}",
        "engine": "{} {} on {}, {}".format(*known),
        "template": f"{template['name']}@{template['version']}" if template else "none",
        "examples": ", ".join(made_of["demos"]["used"]) or "none",
        "index": ", ".join(f"{store} = {at}" for store, at in made_of["generations"].items()) or "none",
        "sampling": ", ".join(sampling),
        "prompt": f"{made_of['prompt_tokens']} tokens, {made_of['prompt_sha256'][:16]}",
    }
    click.echo(record["id"])
    for name, value in lines.items():
        click.echo(f"  {name:<9} {value}")
    for source in made_of["sources"]:
        cited = ", cited" if source["cited"] else ""
        click.echo(
            f"  source {source['n']}  {source['filename'] or source['chunk_id']} ({source['state']}{cited})"
        )
    lost = [name for name, there in record["available"].items() if not there]
    click.echo(f"  no longer as it was: {', '.join(lost)}" if lost else "  all of it is still as it was")


def print_replay(replay: Mapping[str, Any]) -> None:
    """How the second decoding compares."""
    if replay["identical"] is None:
        click.echo("Nothing to compare.")
    elif replay["identical"]:
        click.echo("Identical, and exact." if replay["exact"] else "Identical.")
    else:
        print_difference(replay)
    for reason in replay["reasons"]:
        mark = "!" if reason["can_change"] else "·"
        click.echo(f"  {mark} {reason['code']}: {reason['message']}")


def print_difference(replay: Mapping[str, Any]) -> None:
    """The two texts around the place where they part."""
    apart = replay["first_difference"]
    at = apart["text_index"]
    where = f"token {apart['token_index']}" if apart["token_index"] is not None else "the shown text"
    click.echo(f"Different from {where} of choice {apart['choice']} on:")
    for name, side in (("then", replay["original"]), ("now", replay["replayed"])):
        text = side["choices"][apart["choice"]]["text"]
        begin = max(at - AROUND, 0)
        shown = f"{'…' if begin else ''}{text[begin:at]}⟨{text[at : at + AROUND]}⟩"
        click.echo(f"  {name:<4} {' '.join(shown.split())}")
    if apart["original"] and apart["replayed"] and apart["original"]["logprob"] is not None:
        then, now = apart["original"]["logprob"], apart["replayed"]["logprob"]
        click.echo(f"  ln p there: {then:.4f} then, {now:.4f} now")
