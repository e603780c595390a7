"""A prompt that was counted is not tokenised again, and the ids are the same as if it were."""

from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.records import Message
from server.echo_decoder import EchoTokenizer
from server.token_bytes import token_bytes
from server.token_reading import Rereading, TokenReading, special_among
from tests.server.samples import Listening

MESSAGES = st.lists(st.builds(Message, st.sampled_from(["system", "user"]), st.text(max_size=20)), max_size=4)


@settings(deadline=None)
@given(MESSAGES.map(tuple), MESSAGES.map(tuple))
def test_ids_are_those_of_the_reading_whatever_was_counted_before(counted, messages):
    tokenizer = Listening()
    reading = TokenReading(tokenizer)
    again = Rereading(reading)
    assert again(counted) == len(reading.ids(counted))
    tokenizer.asked.clear()
    assert again.checked_ids(messages) == EchoTokenizer().chat(messages)
    harmless = tuple(Message(one.role, "x") for one in messages)
    read = [messages, harmless] if messages else [messages]  # nothing is its own harmless form
    assert tokenizer.asked == (read[1:] if counted == messages else read)
    tokenizer.asked.clear()
    again.checked_ids(counted)  # it keeps nothing
    assert tokenizer.asked[0] == counted
    tokenizer.asked.clear()
    Rereading(reading).checked_ids(messages)
    assert tokenizer.asked == [messages]  # how many control tokens such turns have is known by now


@given(MESSAGES.map(tuple), MESSAGES.map(tuple))
def test_what_was_read_ahead_changes_nothing_and_is_not_kept(ahead, messages):
    again = Rereading(TokenReading(EchoTokenizer()))
    again.ahead(ahead)
    assert again(messages) == len(EchoTokenizer().chat(messages))
    assert again.checked_ids(messages) == EchoTokenizer().chat(messages)
    assert again._known is None


def test_readings_of_the_same_are_remembered_as_one():
    tokenizer = EchoTokenizer()
    one, two = Rereading(TokenReading(tokenizer)), Rereading(TokenReading(tokenizer))
    assert one == two
    assert hash(one) == hash(two)
    assert one != Rereading(TokenReading(tokenizer, plain=True))


@given(
    st.frozensets(st.integers(0, 70_000), max_size=5)
    | st.builds(lambda first, many: frozenset(range(first, first + many)), st.integers(0, 2**20), st.just(3)),
    st.lists(st.integers(0, 70_000) | st.integers(0, 3), max_size=40),
    st.integers(0, 2**32 - 1),
)
def test_special_ids_are_counted_among_any(special, ids, other):
    ids = [*ids, other, *special]
    data = token_bytes((tuple(ids),))
    assert special_among(special, data) == sum(one in special for one in ids)
