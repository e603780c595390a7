"""vLLM's own parsers behind our seam. No engine runs, but vLLM is imported."""

import json
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.records import Call, Message
from server.calling import Calling, Function
from server.settings import Settings
from server.vllm_decoder.tokenizer import VllmTokenizer
from server.vllm_decoder.tool_parsing import ToolParsing, check_parser
from tests.server.test_call_reading import ARGUMENTS, cut, heard

pytestmark = pytest.mark.slow  # imports vLLM
WEATHER = Function(name="weather", parameters={"type": "object", "properties": {"town": {"type": "string"}}})
CALLING = Calling(functions=(WEATHER, Function(name="clock")))


@pytest.fixture(scope="module")
def tokenizer():
    pytest.importorskip("vllm")
    with warnings.catch_warnings(action="ignore"):  # of what vLLM imports, not of ours
        check_parser("hermes")
        from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Settings().paths.cache / "models" / "smollm2-135m-instruct")


def written(calls):
    bodies = (json.dumps({"name": name, "arguments": arguments}) for name, arguments in calls)
    return "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies)


@settings(max_examples=30, deadline=None)
@given(
    calls=st.lists(st.tuples(st.sampled_from(["weather", "clock"]), ARGUMENTS), min_size=1, max_size=3),
    places=st.lists(st.integers(0, 1_000), max_size=30),
    before=st.sampled_from(["", "Let me look."]),
)
def test_a_stream_adds_up_to_the_whole_answer(tokenizer, calls, places, before):
    parsing = ToolParsing("hermes", tokenizer)
    text = before + written(calls)
    words, streamed = heard(parsing.reader(CALLING, streamed=True), cut(text, places))
    plain, whole = heard(parsing.reader(CALLING, streamed=False), cut(text, places))
    assert words == plain == before
    assert [name for name, _ in streamed] == [name for name, _ in whole] == [name for name, _ in calls]
    assert [json.loads(arguments) for _, arguments in streamed] == [arguments for _, arguments in calls]
    assert [json.loads(arguments) for _, arguments in whole] == [arguments for _, arguments in calls]


def test_every_parser_of_this_vllm_that_takes_the_tokenizer_reads_words_as_words(tokenizer):
    from vllm.tool_parsers import ToolParserManager

    read = []
    for name in ToolParserManager.list_registered():
        try:
            parsing = ToolParsing(name, tokenizer)
        except Exception:  # of another family of models: its tokens are not in this vocabulary
            continue
        ids = tuple(tokenizer.encode("Hello there."))
        reader = parsing.reader(CALLING, streamed=False)
        assert reader.read("Hello there.", ids, ends=True) == ("Hello there.", ()), name
        read.append(name)
    assert {"hermes", "pythonic", "xlam"} <= set(read)


def test_a_name_that_is_no_parser_s_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"engine\.tool_parser.*hermes"):
        check_parser("no-such-format")


def test_a_parser_that_stumbles_leaves_the_text(tokenizer):
    class Stumbling:
        def parse(self, *_, **__):
            raise KeyError("arguments")

        def parse_delta(self, *_, **__):
            raise IndexError

    parsing = ToolParsing("hermes", tokenizer)
    for streamed in (True, False):
        reader = parsing.reader(CALLING, streamed=streamed)
        reader._parser = Stumbling()
        assert heard(reader, ["Hello ", "there."]) == ("Hello there.", [])


def test_a_template_without_a_place_for_functions_gets_them_in_words(tokenizer):
    ours = VllmTokenizer(tokenizer)
    call = Call("c1", "weather", '{"town": "Oslo"}')
    talk = [
        Message("user", "Rain?"),
        Message("assistant", "", (call,)),
        Message("tool", "Yes.", answers="c1"),
    ]
    text = ours.decode(ours.chat(talk, functions=[WEATHER]))
    assert '"name": "weather"' in text
    assert text.count("<tool_call>") == 3  # two in the instructions, one in the call
    assert "<tool_response>\nYes." in text


def test_a_template_that_knows_functions_gets_them_as_they_are(tokenizer):
    other = type(tokenizer).from_pretrained(tokenizer.name_or_path)
    other.chat_template = (
        "{{ tools | tojson }}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.arguments.town }}{% endfor %}"
        "{% if m.role == 'tool' %}{{ m.name }}{{ m.tool_call_id }}{% endif %}{% endfor %}"
    )
    ours = VllmTokenizer(other)
    call = Call("c1", "weather", '{"town": "Oslo"}')
    talk = [
        Message("user", "Rain?"),
        Message("assistant", "", (call,)),
        Message("tool", "Yes.", answers="c1"),
    ]
    text = ours.decode(ours.chat(talk, functions=[WEATHER]))
    assert text.endswith("[user]Rain?[assistant]Oslo[tool]Yes.weatherc1")
    assert '"name": "weather"' in text
    assert "<tool_call>" not in text
