"""Tokens kept inside vLLM and told together: nothing is lost, added or held for ever, whatever the pace.

vLLM's own output processor, detokeniser and request states; only the engine's core and its socket are not.
"""

import asyncio
import warnings
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import EngineUnavailable
from server.records import Limits
from server.settings import Settings

pytestmark = pytest.mark.slow  # imports vLLM
SECONDS = 10  # until a test that waits in vain fails


@pytest.fixture(scope="module")
def tokenizer():
    pytest.importorskip("vllm")
    with warnings.catch_warnings(action="ignore"):  # of what vLLM imports, not of ours
        from transformers import AutoTokenizer
        from vllm.v1.engine import output_processor  # noqa: F401

    return AutoTokenizer.from_pretrained(Settings().paths.cache / "models" / "smollm2-135m-instruct")


class FrontEnd:
    """What AsyncLLM is to `Streams`, without a core."""

    def __init__(self, tokenizer):
        from vllm.v1.engine.output_processor import OutputProcessor

        self.output_processor = OutputProcessor(tokenizer, log_stats=False)
        self.errored = False
        self.aborted = []

    async def add_request(self, request_id, prompt, params, *, lora_request=None, early=()):
        from vllm.v1.engine.output_processor import RequestOutputCollector

        queue = RequestOutputCollector(params.output_kind, request_id)
        self.output_processor.add_request(request_of(request_id, prompt, params), None, None, 0, queue)
        for token in self.early:  # the core may be quicker than whoever asked it
            self.processed([output_of(request_id, token, logprobs=params.logprobs)])
        return queue

    early = ()

    async def abort(self, request_id, internal=False):
        self.aborted.append(request_id)
        self.output_processor.abort_requests([request_id], internal=internal)

    def step(self, tokens, ends=False):
        outputs = [output_of(request_id, token, ends) for request_id, token in tokens.items()]
        return self.processed(outputs)

    def processed(self, outputs):
        return self.output_processor.process_outputs(outputs, asyncio.get_running_loop().time())


def request_of(request_id, prompt, params):
    from vllm.v1.engine import EngineCoreRequest

    return EngineCoreRequest(
        request_id=request_id,
        prompt_token_ids=prompt["prompt_token_ids"],
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
        external_req_id=request_id,
    )


def output_of(request_id, token, ends=False, logprobs=None):
    import numpy as np
    from vllm.v1.engine import EngineCoreOutput, FinishReason
    from vllm.v1.outputs import LogprobsLists

    row = LogprobsLists(np.array([[token, 7]]), np.array([[-0.5, -1.5]]), np.array([1]))
    return EngineCoreOutput(
        request_id,
        [token],
        new_logprobs=None if logprobs is None else row,
        finish_reason=FinishReason.LENGTH if ends else None,
    )


def params_of(stop=(), logprobs=None):
    from server.vllm_decoder.sampling import sampling_params

    limits = Limits(max_tokens=100, temperature=0.0, stop=stop, logprobs=logprobs)
    return sampling_params(limits)


def by_vllm(tokenizer, prompt, params, tokens):
    """Text, tokens, log-probabilities and finish of the same answer through vLLM alone."""
    from vllm.v1.engine.output_processor import OutputProcessor

    from server.vllm_decoder.pieces import as_pieces

    processor = OutputProcessor(tokenizer, log_stats=False)
    processor.add_request(request_of("a", prompt, params), None)
    pieces = []
    for number, token in enumerate(tokens):
        done = processor.process_outputs([output_of("a", token, number == len(tokens) - 1, params.logprobs)])
        pieces += [piece for output in done.request_outputs for piece in as_pieces(output)]
    return added_up(pieces)


def added_up(pieces):
    return (
        "".join(piece.text for piece in pieces),
        [token for piece in pieces for token in piece.tokens],
        [one for piece in pieces for one in piece.logprobs or ()],
        [piece.finish for piece in pieces][-1],
    )


async def told(stream, rests=(), pieces=None):
    waits, pieces = iter(rests), [] if pieces is None else pieces
    while said := await stream.next():
        pieces += said
        await asyncio.sleep(next(waits, 0))
    return pieces


IDS = st.integers(3, 49_151)  # bytes of halves of characters among them


@settings(max_examples=40, deadline=None)
@given(
    answers=st.lists(st.lists(IDS, min_size=1, max_size=12), min_size=1, max_size=9),
    pauses=st.lists(st.sampled_from([0, 0, 0.0005, 0.003]), max_size=12),
    rests=st.lists(st.sampled_from([0, 0.002]), max_size=8),
    most=st.sampled_from([0, 0.004]),
    stop=st.sampled_from([(), ("e",), ("the", " a")]),
    logprobs=st.sampled_from([None, 1]),
    early=st.integers(0, 2),
    takes=st.lists(st.booleans(), max_size=9),
)
def test_streams_add_up_to_what_vllm_alone_would_tell(
    tokenizer, answers, pauses, rests, most, stop, logprobs, early, takes
):
    from server.vllm_decoder.streams import Streams

    prompt = {"prompt_token_ids": [1, 2]}

    async def run():
        engine = FrontEnd(tokenizer)
        streams = Streams(engine, most)
        readers, left = {}, {}
        for number, answer in enumerate(answers):
            engine.early = answer[: min(early, len(answer) - 1)]
            heard, taking = [], iter(takes)

            def show(piece, heard=heard, taking=taking):
                """What is shown past the reader comes between the pieces that are told to him."""
                shown = next(taking, True)
                if shown:
                    heard.append(piece)
                return shown

            stream = await streams.open(prompt, params_of(stop, logprobs), str(number), show=show)
            readers[str(number)] = stream, asyncio.create_task(told(stream, rests, heard))
            left[str(number)] = answer[len(engine.early) :]
        waits = iter(pauses)
        while any(left.values()):
            engine.processed(
                [output_of(name, some.pop(0), not some, logprobs) for name, some in left.items() if some]
            )
            await asyncio.sleep(next(waits, 0))
        async with asyncio.timeout(SECONDS):
            found = {name: await reader for name, (_, reader) in readers.items()}
        for stream, _ in readers.values():
            await streams.close(stream)
        assert not engine.output_processor.request_states
        assert not engine.aborted
        return found

    found = asyncio.run(run())
    for number, answer in enumerate(answers):
        expected = by_vllm(tokenizer, prompt, params_of(stop, logprobs), answer)
        assert added_up(found[str(number)]) == expected


def opened(tokenizer, count, most):
    from server.vllm_decoder.streams import Streams

    engine = FrontEnd(tokenizer)
    streams = Streams(engine, most)

    async def all_of_them():
        return [
            await streams.open({"prompt_token_ids": [1]}, params_of(), str(number)) for number in range(count)
        ]

    return engine, streams, all_of_them


def test_under_load_an_event_holds_several_tokens_and_the_first_is_alone(tokenizer):
    async def run():
        engine, _, begin = opened(tokenizer, 40, 0.02)
        begun = await begin()
        readers = [asyncio.create_task(told(stream)) for stream in begun]
        for number in range(30):
            engine.step({stream.id: 1000 + number for stream in begun}, ends=number == 29)
            await asyncio.sleep(0.001)
        async with asyncio.timeout(SECONDS):
            return await asyncio.gather(*readers)

    for pieces in asyncio.run(run()):
        assert len(pieces[0].tokens) == 1
        assert len(pieces) < 20  # of 30 tokens; a step is 1 ms and a rest 20
        assert sum(len(piece.tokens) for piece in pieces) == 30


def test_an_engine_that_falters_does_not_keep_what_it_has_said(tokenizer):
    async def run():
        engine, _, begin = opened(tokenizer, 40, 0.02)
        begun = await begin()
        for token in (1000, 1001):
            engine.step({stream.id: token for stream in begun})
            said = [await stream.next() for stream in begun] if token == 1000 else []
        async with asyncio.timeout(SECONDS):  # and no step comes any more
            said = await asyncio.gather(*(stream.next() for stream in begun))
        return said

    assert [piece.tokens for said in asyncio.run(run()) for piece in said] == [(1001,)] * 40


def test_whoever_leaves_is_aborted_and_whoever_waits_hears_that_the_engine_failed(tokenizer):
    async def run():
        engine, streams, begin = opened(tokenizer, 3, 0.02)
        first, second, third = await begin()
        engine.step({"0": 1000, "1": 1000, "2": 1000})
        await first.next()
        await streams.close(first)
        assert engine.aborted == ["0"]
        assert set(engine.output_processor.request_states) == {"1", "2"}
        engine.step({"1": 1001, "2": 1001})
        assert (await second.next())[0].tokens == (1000,)
        waiting = asyncio.create_task(second.next())
        await third.next()
        engine.output_processor.propagate_error(EngineUnavailable("gone"))
        assert (await waiting)[0].tokens == (1001,)  # said before it failed
        assert (await third.next())[0].tokens == (1001,)
        for stream in (second, third):
            with pytest.raises(EngineUnavailable, match="gone"):
                await stream.next()

    asyncio.run(asyncio.wait_for(run(), SECONDS))


def test_a_vllm_that_cannot_keep_tokens_is_told_apart(tokenizer):
    from server.vllm_decoder.streams import keeps_tokens

    assert keeps_tokens(FrontEnd(tokenizer))
    assert not keeps_tokens(SimpleNamespace(output_processor=SimpleNamespace(process_outputs=print)))
    assert not keeps_tokens(SimpleNamespace())
