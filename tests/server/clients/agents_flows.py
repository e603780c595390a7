"""What programs do through the OpenAI agents SDK, over Responses (its default) and over chat."""

import contextlib

from agents import (
    Agent,
    FileSearchTool,
    ModelBehaviorError,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.server.clients.flows import CALL, Server, flow, main

WAYS = (OpenAIResponsesModel, OpenAIChatCompletionsModel)
SETTINGS = ModelSettings(
    temperature=0.5, top_p=0.9, max_tokens=50, truncation="auto", store=False, metadata={"a": "b"}
)


class Greeting(BaseModel):
    word: str


def agent(server: Server, way=OpenAIResponsesModel, **options) -> Agent:
    client = AsyncOpenAI(base_url=server.url, api_key=server.key, max_retries=0)
    model = way(model="echo", openai_client=client)
    return Agent(**{"name": "A", "instructions": "Be short.", "model": model, **options})


@flow
async def runs(server):
    for way in WAYS:
        done = await Runner.run(agent(server, way), "Hello")
        assert done.final_output == "Hello"
        assert done.context_wrapper.usage.output_tokens == len("Hello")
        assert (await Runner.run(agent(server, way, instructions=None), "Hello")).final_output == "Hello"


@flow
async def streams(server):
    for way in WAYS:
        running = Runner.run_streamed(agent(server, way), "Hello")
        events = [event.data async for event in running.stream_events() if event.type == "raw_response_event"]
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert "".join(deltas) == running.final_output == "Hello"


@flow
async def structured_output(server):
    for way in WAYS:
        done = await Runner.run(agent(server, way, output_type=Greeting), '{"word": "Hello"}')
        assert done.final_output == Greeting(word="Hello")


@flow
async def settings(server):
    for way in WAYS:
        done = await Runner.run(agent(server, way, model_settings=SETTINGS), "Hello")
        assert done.final_output == "Hello"
    short = agent(server, model_settings=ModelSettings(max_tokens=2))
    with contextlib.suppress(ModelBehaviorError):  # the SDK's word for an answer that ended with `incomplete`
        await Runner.run(short, "Hello")
        raise AssertionError("it took an incomplete answer")


@flow
async def turns(server):
    for way in WAYS:
        first = await Runner.run(agent(server, way), "One")
        more = [*first.to_input_list(), {"role": "user", "content": "Two"}]
        assert (await Runner.run(agent(server, way), more)).final_output == "Two"
        session = SQLiteSession("one")  # in memory
        for word in ("One", "Two", "Three"):
            done = await Runner.run(agent(server, way), word, session=session)
            assert done.final_output == word


@flow
async def chains(server):
    first = await Runner.run(agent(server), "One")
    last = first.last_response_id
    done = await Runner.run(agent(server), "Two", previous_response_id=last)
    assert done.final_output == "Two"
    assert done.context_wrapper.usage.input_tokens > first.context_wrapper.usage.input_tokens


@flow
async def file_search(server):
    tool = FileSearchTool(vector_store_ids=[server.store()], max_num_results=3, include_search_results=True)
    done = await Runner.run(agent(server, tools=[tool], instructions=None), "How long do cats sleep? [1]")
    search, message = (item.raw_item for item in done.new_items)
    assert [found.filename for found in search.results] == ["cats.txt"]
    assert {note.type for note in message.content[0].annotations} == {"file_citation"}


@function_tool
def weather(town: str) -> str:
    """The weather of a town."""
    return f"Rain in {town}."


@flow
async def tools(server):
    for way in WAYS:
        forecaster = agent(server, way, tools=[weather])
        done = await Runner.run(forecaster, CALL)
        assert "Rain in Oslo." in done.final_output
        running = Runner.run_streamed(forecaster, CALL)
        seen = [
            event.name async for event in running.stream_events() if event.type == "run_item_stream_event"
        ]
        assert seen == ["tool_called", "tool_output", "message_output_created"]
        assert "Rain in Oslo." in running.final_output


@flow
async def handoffs(server):
    for way in WAYS:
        first = agent(server, way, handoffs=[agent(server, way, name="Expert")])
        done = await Runner.run(
            first, '<tool_call>{"name": "transfer_to_expert", "arguments": {}}</tool_call>'
        )
        assert done.last_agent.name == "Expert"


if __name__ == "__main__":
    set_tracing_disabled(True)  # traces go to OpenAI
    main("openai-agents", "openai")
