"""The tables of a template file, one function each: what they hold and what they default to."""

from __future__ import annotations

from typing import cast, get_args

from prompts.fields import Fields
from prompts.records import (
    Block,
    Budget,
    Calibration,
    Demo,
    DemoPolicy,
    DemoStyle,
    Example,
    Format,
    Kind,
    Label,
    LabelSet,
    Layout,
    Marking,
    Message,
    Order,
    Role,
    Sampling,
    Scoring,
    Slot,
    SlotType,
    Source,
    Strategy,
    Trust,
)


def slot(fields: Fields) -> Slot:
    read = Slot(
        type=fields.choice("type", SlotType, "text"),
        trust=fields.choice("trust", Trust, "user"),
        max_chars=fields.integer("max_chars", least=1),
        choices=fields.texts("choices"),
        optional=fields.flag("optional"),
    )
    fields.close()
    return read


def layout(fields: Fields) -> Layout:
    usual = Layout()
    order = fields.choices("order", Block, usual.order)
    if len(order) < len(usual.order):
        fields.complain(f"layout.order must name all of {', '.join(usual.order)}")
    read = Layout(
        format=fields.choice("format", Format, usual.format),
        order=order,
        demo_style=fields.choice("demo_style", DemoStyle, usual.demo_style),
        marking=fields.choice("marking", Marking, usual.marking),
        fence=fields.texts("fence"),
        datamark=fields.text("datamark", ""),
    )
    fields.close()
    return read


def policy(fields: Fields) -> DemoPolicy:
    read = DemoPolicy(
        strategy=fields.choice("strategy", Strategy, "none"),
        count=fields.integer("count") or 0,
        order=fields.choice("order", Order, "nearest_last"),
        seed=fields.integer("seed") or 0,
        per_label=fields.integer("per_label", least=1),
        max_distance=fields.number("max_distance", least=0, most=2),
        ids=fields.texts("ids"),
        pool=fields.text("pool", "") or None,
    )
    fields.close()
    return read


def labels(fields: Fields) -> LabelSet | None:
    rows = [
        (Label(row.text("id"), row.text("text"), row.text("about", "")), row) for row in fields.tables("set")
    ]
    read = LabelSet(
        labels=tuple(label for label, _ in rows),
        score=fields.choice("score", Scoring, "first_token"),
        calibrate=fields.choice("calibrate", Calibration, "none"),
        refuse_below=fields.number("refuse_below", least=0, most=1) or 0.0,
    )
    for table in [fields, *(row for _, row in rows)]:
        table.close()
    return read if read.labels else None


def budget(fields: Fields) -> Budget:
    most, least, usual = fields.table("most"), fields.table("least"), Budget()
    reserve = fields.integer("reserve", least=1)
    read = Budget(
        reserve=usual.reserve if reserve is None else reserve,
        most=_per_kind(most),
        least=_per_kind(least),
        gives_way=fields.choices("gives_way", Kind, usual.gives_way),
    )
    for table in (most, least, fields):
        table.close()
    return read


def sampling(fields: Fields) -> Sampling:
    read = Sampling(
        temperature=fields.number("temperature", least=0, most=2),
        top_p=fields.number("top_p", least=0, most=1),
        repetition_penalty=fields.number("repetition_penalty", least=0, most=2),
        max_tokens=fields.integer("max_tokens", least=1),
    )
    fields.close()
    return read


def demo(fields: Fields, usual_id: str) -> Demo:
    read = Demo(
        id=fields.text("id", usual_id),
        input=fields.text("input").strip("\n"),
        output=fields.text("output").strip("\n"),
        label=fields.text("label", "") or None,
        tags=fields.texts("tags"),
    )
    fields.close()
    return read


def example(fields: Fields) -> Example:
    question = fields.text("question")
    instructions = fields.text("instructions", "") or None
    sources = tuple(_source(row, number) for number, row in enumerate(fields.tables("sources"), 1))
    demos = tuple(demo(row, f"example-{at}") for at, row in enumerate(fields.tables("demos"), 1))
    history = tuple(_message(row) for row in fields.tables("history"))
    variables = dict(fields.rest())  # whatever else an example names is a value for a slot
    return Example(question, variables, instructions, demos, sources, history)


def _source(fields: Fields, number: int) -> Source:
    read = Source(number, f"example-{number}", fields.text("title", ""), fields.text("text").strip("\n"))
    fields.close()
    return read


def _message(fields: Fields) -> Message:
    read = Message(fields.choice("role", Role, "user"), fields.text("text").strip("\n"))
    fields.close()
    return read


def _per_kind(fields: Fields) -> dict[Kind, int]:
    read = {cast(Kind, kind): fields.integer(kind) for kind in get_args(Kind)}
    return {kind: number for kind, number in read.items() if number is not None}
