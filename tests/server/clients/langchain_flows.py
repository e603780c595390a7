"""What programs do through LangChain's OpenAI classes, with their own defaults."""

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.server.clients.flows import CALL, Server, flow, main, refused

WORD = '{"word": "Hello"}'
TURNS = [SystemMessage("Be short."), HumanMessage("One"), AIMessage("One"), HumanMessage("Two")]


class Greeting(BaseModel):
    word: str


def chat(server: Server, **options) -> ChatOpenAI:
    usual = {"model": "echo", "base_url": server.url, "api_key": server.key, "max_retries": 0}
    return ChatOpenAI(**usual, **options)


@flow
async def chat_whole(server):
    done = await chat(server).ainvoke("Hello")
    assert done.content == "Hello"
    assert done.usage_metadata["output_tokens"] == len("Hello")
    assert done.response_metadata["finish_reason"] == "stop"
    assert chat(server).invoke("Hello").content == "Hello"
    assert [one.content for one in chat(server).batch(["a", "b"])] == ["a", "b"]


@flow
def chat_with_settings(server):
    done = chat(server, temperature=0.2, max_tokens=3, top_p=0.9, seed=7, stop=["z"]).invoke("Hello")
    assert done.content == "Hel"
    assert done.response_metadata["finish_reason"] == "length"
    likely = chat(server, logprobs=True, top_logprobs=2).invoke("Hello").response_metadata["logprobs"]
    assert [token["token"] for token in likely["content"]] == list("Hello")


@flow
def chat_turns(server):
    assert chat(server).invoke(TURNS).content == "Two"
    said = chat(server).invoke("One")  # echoed whole, with what we put beside the text
    assert chat(server).invoke([HumanMessage("One"), said, HumanMessage("Two")]).content == "Two"


@flow
async def chat_stream(server):
    chunks = [chunk async for chunk in chat(server, stream_usage=True).astream("Hello")]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.content == "Hello"
    assert whole.usage_metadata["output_tokens"] == len("Hello")
    assert whole.response_metadata["finish_reason"] == "stop"
    assert "".join(chunk.content for chunk in chat(server).stream("Hello")) == "Hello"


@flow
def structured_output(server):
    assert chat(server).with_structured_output(Greeting).invoke(WORD) == Greeting(word="Hello")
    both = chat(server).with_structured_output(Greeting, include_raw=True).invoke(WORD)
    assert both["parsed"] == Greeting(word="Hello")
    loose = chat(server).with_structured_output(Greeting, method="json_mode").invoke(WORD)
    assert loose == Greeting(word="Hello")
    by_schema = chat(server).with_structured_output(Greeting.model_json_schema(), method="json_schema")
    assert by_schema.invoke(WORD) == {"word": "Hello"}


@flow
def chat_with_documents(server):
    extra = {"fewshot": {"vector_store_ids": [server.store()], "template": "grounded"}}
    done = chat(server, extra_body=extra).invoke("How long do cats sleep? Thirteen hours [1], not [9].")
    assert "[1]" in done.content
    assert "[9]" not in done.content


@flow
def responses(server):
    speak = chat(server, use_responses_api=True)
    said = speak.invoke("Hello")
    assert said.text == "Hello"
    assert "".join(chunk.text for chunk in speak.stream("Hello")) == "Hello"
    assert speak.with_structured_output(Greeting).invoke(WORD) == Greeting(word="Hello")
    assert speak.invoke([HumanMessage("Hello"), said, HumanMessage("Two")]).text == "Two"
    chained = chat(server, use_responses_api=True, use_previous_response_id=True)
    assert chained.invoke([HumanMessage("Hello"), said, HumanMessage("Two")]).text == "Two"


@flow
def responses_with_documents(server):
    tool = {"type": "file_search", "vector_store_ids": [server.store()]}
    done = chat(server, use_responses_api=True).bind_tools([tool]).invoke("How long do cats sleep? [1]")
    (block,) = [block for block in done.content if block["type"] == "text"]
    cited = {(note["type"], note["filename"]) for note in block["annotations"]}
    assert cited == {("file_citation", "cats.txt")}


@flow
async def embeddings(server):
    usual = {"model": "hash", "base_url": server.url, "api_key": server.key, "max_retries": 0}
    model = OpenAIEmbeddings(**usual, check_embedding_ctx_length=False)
    tea, cats = model.embed_documents(["tea", "cats"])
    assert len(tea) == len(cats) == 256
    assert (await model.aembed_query("tea")) == tea
    # The default sends tiktoken's ids, which are noise to any other model: trap 12.
    with (
        refused("input", message="check_embedding_ctx_length=False"),
        server.client() as client,
    ):
        client.embeddings.create(model="hash", input=[[83, 68]])


@flow
def completions(server):
    model = OpenAI(model="echo", base_url=server.url, api_key=server.key, max_retries=0)
    assert model.invoke("Hello") == "Hello"
    assert "".join(model.stream("Hello")) == "Hello"
    assert [row[0].text for row in model.generate(["Hello", "B"]).generations] == ["Hello", "B"]


def weather(town: str) -> str:
    """The weather of a town."""
    return f"Rain in {town}."


@flow
def tools(server):
    for way in (False, True):
        speak = chat(server, use_responses_api=way).bind_tools([weather])
        called = speak.invoke(CALL)
        (call,) = called.tool_calls
        assert (call["name"], call["args"]) == ("weather", {"town": "Oslo"})
        given = ToolMessage(weather(**call["args"]), tool_call_id=call["id"])
        done = speak.invoke([HumanMessage(CALL), called, given])
        assert "Rain in Oslo." in done.text
        assert not done.tool_calls
        chunks = list(speak.stream(CALL))
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("weather", {"town": "Oslo"})]


@flow
def forced_tools(server):
    named = chat(server).bind_tools([weather], tool_choice="weather", strict=True)
    (call,) = named.invoke('{"town": "Rome"}').tool_calls
    assert call["args"] == {"town": "Rome"}
    some = chat(server).bind_tools([weather], tool_choice="any", parallel_tool_calls=False)
    (call,) = some.invoke('[{"name": "weather", "parameters": {"town": "Rome"}}]').tool_calls
    assert call["args"] == {"town": "Rome"}
    by_call = chat(server).with_structured_output(Greeting, method="function_calling")
    assert by_call.invoke(WORD) == Greeting(word="Hello")


if __name__ == "__main__":
    main("langchain-openai", "langchain-core", "openai")
