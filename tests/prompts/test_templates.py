"""Templates: strict files, problems reported together, versions that are never edited."""

import pytest

from prompts.errors import SlotProblem, TemplateInvalid, UnknownTemplate
from prompts.parsing import parse
from prompts.slots import check, schema
from prompts.templates import SHIPPED, Library, lock, locked_digests, read

GREETING = """
format = 1
name = "greeting"
version = 1
task = "answer"
about = "Greets."
[slots]
company = { type = "text", trust = "author", max_chars = 10 }
tone = { type = "choice", trust = "author", choices = ["warm", "brief"], optional = true }
[parts]
system = "You greet for {{ company }}{% if tone %}, tone: {{ tone }}{% endif %}."
question = "{{ question }}"
[[examples]]
company = "Lumen"
question = "Hello?"
"""


def greeting(**changes):
    text = GREETING
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    return text.encode()


def folder_of(tmp_path, content=GREETING):
    (tmp_path / "greeting").mkdir()
    (tmp_path / "greeting" / "1.toml").write_text(content)
    return tmp_path


def test_a_file_becomes_a_template():
    template = parse(GREETING.encode(), "here")
    assert template.reference == "greeting@1"
    assert template.slots["company"].max_chars == 10
    assert template.examples[0].variables == {"company": "Lumen"}


def test_every_problem_is_reported_at_once():
    broken = greeting(
        key=('about = "Greets."', "abuot = 'x'"),
        part=("{{ company }}", "{{ compny }}{% set x = 1 %}"),
        slot=('type = "text"', 'type = "txt"'),
    )
    with pytest.raises(TemplateInvalid) as caught:
        parse(broken, "here")
    said = str(caught.value)
    for problem in (
        "about is missing",
        "abuot is not a known key",
        "slots.company.type",
        "`set` is not allowed",
    ):
        assert problem in said


def test_undeclared_and_unused_slots_are_named():
    with pytest.raises(TemplateInvalid) as caught:
        parse(greeting(part=("{{ company }}", "{{ firm }}")), "here")
    assert caught.value.problems == (
        "parts.system: 'firm' is not a declared slot, nor built in here",
        "slots.company is used in no part",
    )


def test_the_question_has_no_place_in_the_stable_system_part():
    with pytest.raises(TemplateInvalid, match=r"parts\.system: 'question'"):
        parse(greeting(part=("{{ company }}", "{{ company }} {{ question }}")), "here")


def test_a_source_must_stand_between_the_declared_fences():
    text = GREETING.replace("[[examples]]", '[layout]\nfence = ["<a>"]\n[[examples]]')
    text = text.replace(
        'question = "{{ question }}"', 'question = "{{ question }}"\nsource = "{{ source.text }}"'
    )
    with pytest.raises(TemplateInvalid, match=r"'<a>' does not occur in parts\.source"):
        parse(text.encode(), "here")


def test_labels_that_read_the_same_are_refused():
    text = GREETING.replace('task = "answer"', 'task = "classify"').replace(
        "[[examples]]",
        '[labels]\nset = [{ id = "a", text = "Yes" }, { id = "b", text = "yes " }]\n[[examples]]',
    )
    with pytest.raises(TemplateInvalid, match="two labels read 'yes'"):
        parse(text.encode(), "here")


def test_the_digest_follows_the_meaning_and_not_the_comments():
    plain = parse(GREETING.encode(), "a")
    assert parse(("# a comment\n" + GREETING).encode(), "b").digest == plain.digest
    assert parse(greeting(word=("You greet", "You welcome")), "c").digest != plain.digest


def test_a_locked_version_cannot_be_edited(tmp_path):
    folder = folder_of(tmp_path)
    assert lock(folder) == ["greeting@1"]
    assert read(folder)[0].digest == locked_digests(folder)["greeting@1"]
    (folder / "greeting" / "1.toml").write_bytes(greeting(word=("You greet", "You welcome")))
    with pytest.raises(TemplateInvalid, match=r"copy the file to greeting/2\.toml"):
        read(folder)


def test_a_file_in_the_wrong_place_is_refused(tmp_path):
    folder = folder_of(tmp_path, GREETING.replace("version = 1", "version = 2"))
    with pytest.raises(TemplateInvalid, match=r"belongs at greeting/2\.toml"):
        read(folder)


def test_a_name_alone_means_its_highest_version(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "greeting" / "2.toml").write_text(GREETING.replace("version = 1", "version = 2"))
    library = Library.load(folder)
    assert library.get("greeting").version == 2
    assert library.get("greeting@1").version == 1


def test_an_unknown_name_brings_up_near_ones(tmp_path):
    library = Library.load(folder_of(tmp_path))
    with pytest.raises(UnknownTemplate, match="greeting"):
        library.get("greetings")
    with pytest.raises(UnknownTemplate, match="greeting@1"):
        library.get("greeting@7")


def test_every_shipped_version_is_locked():
    assert set(locked_digests(SHIPPED)) == {template.reference for template in Library.load()}


def test_misfit_values_are_reported_together():
    template = parse(GREETING.encode(), "here")
    with pytest.raises(SlotProblem) as caught:
        check(template, {"company": "x" * 11, "tone": "loud", "colour": "red"})
    assert caught.value.missing == ("question",)
    assert caught.value.unknown == ("colour",)
    assert caught.value.too_long == ("company (11 of 10 characters)",)
    assert caught.value.unfit == ("tone (wants one of warm, brief)",)


def test_the_schema_says_what_a_caller_may_give():
    properties = schema(parse(GREETING.encode(), "here"))
    assert properties["required"] == ["company", "question"]
    assert properties["properties"]["company"] == {"type": "string", "maxLength": 10}
    assert properties["properties"]["tone"]["enum"] == ["warm", "brief"]
