"""What programs do through LlamaIndex's classes for servers like OpenAI's, with their own defaults."""

from llama_index.core import Document, PromptTemplate, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses
from pydantic import BaseModel

from tests.server.clients.flows import CALL, SLEEP, Server, flow, main, refused

WORD = '{"word": "Hello"}'
HELLO = [ChatMessage(role="system", content="Be short."), ChatMessage(role="user", content="Hello")]


class Greeting(BaseModel):
    """A greeting."""

    word: str


def model(server: Server, kind: type[OpenAILike] = OpenAILike, **options) -> OpenAILike:
    usual = {"model": "echo", "api_base": server.url, "api_key": server.key, "max_retries": 0}
    return kind(**usual, **{"context_window": 8_192, "is_chat_model": True, **options})


def embedder(server: Server) -> OpenAILikeEmbedding:
    return OpenAILikeEmbedding(model_name="hash", api_base=server.url, api_key=server.key, max_retries=0)


@flow
async def chat(server):
    speak = model(server)
    assert speak.complete("Hello").text == "Hello"
    assert speak.chat(HELLO).message.content == "Hello"
    assert (await speak.achat(HELLO)).message.content == "Hello"
    likely = speak.chat(HELLO, logprobs=True, top_logprobs=2).logprobs
    assert "".join(tokens[0].token for tokens in likely) == "Hello"
    assert model(server, max_tokens=2).chat(HELLO).message.content == "He"


@flow
async def chat_stream(server):
    speak = model(server)
    assert "".join(part.delta for part in speak.stream_chat(HELLO)) == "Hello"
    assert "".join(part.delta for part in speak.stream_complete("Hello")) == "Hello"
    assert "".join([part.delta async for part in await speak.astream_chat(HELLO)]) == "Hello"


@flow
def structured_output(server):
    speak = model(server, should_use_structured_outputs=True)
    assert speak.as_structured_llm(Greeting).complete(WORD).raw == Greeting(word="Hello")
    template = PromptTemplate("{text}")
    assert speak.structured_predict(Greeting, template, text=WORD) == Greeting(word="Hello")
    # Without that option it puts the schema into the prompt, and `tool_choice` "required" without a tool.
    with refused("tool_choice"):
        model(server).as_structured_llm(Greeting).complete(WORD)


@flow
def completions(server):
    speak = model(server, is_chat_model=False)
    assert speak.complete("Hello").text == "Hello"
    assert "".join(part.delta for part in speak.stream_complete("Hello")) == "Hello"


@flow
def responses(server):
    speak = model(server, OpenAILikeResponses)
    assert speak.chat(HELLO).message.content == "Hello"
    assert "".join(part.delta for part in speak.stream_chat(HELLO)) == "Hello"
    turns = [*HELLO, ChatMessage(role="assistant", content="Hello"), ChatMessage(role="user", content="Two")]
    assert speak.chat(turns).message.content == "Two"


@flow
async def embeddings(server):
    one, two = embedder(server).get_text_embedding_batch(["tea", "cats"])
    assert len(one) == len(two) == 256
    assert embedder(server).get_query_embedding("tea") == one
    assert (await embedder(server).aget_text_embedding("cats")) == two


@flow
def retrieval(server):
    """An index of its own in memory, over our embeddings and our model."""
    cats = Document(text=SLEEP.decode())
    index = VectorStoreIndex.from_documents([cats, Document(text="Green tea.")], embed_model=embedder(server))
    answer = index.as_query_engine(llm=model(server), similarity_top_k=1).query("How long do cats sleep?")
    assert SLEEP.decode() in str(answer)  # the prompt, echoed


@flow
def chat_engine(server):
    engine = SimpleChatEngine.from_defaults(llm=model(server))
    assert str(engine.chat("One")) == "One"
    assert "".join(engine.stream_chat("Two").response_gen) == "Two"
    assert str(engine.chat("Three")) == "Three"


def weather(town: str) -> str:
    """The weather of a town."""
    return f"Rain in {town}."


@flow
async def tools(server):
    speak = model(server, is_function_calling_model=True)
    tool = FunctionTool.from_defaults(weather)
    answer = speak.chat_with_tools([tool], user_msg=CALL)
    (call,) = speak.get_tool_calls_from_response(answer)
    assert (call.tool_name, call.tool_kwargs) == ("weather", {"town": "Oslo"})
    assert "Rain in Oslo." in str(speak.predict_and_call([tool], user_msg=CALL))
    done = await FunctionAgent(tools=[weather], llm=speak).run(user_msg=CALL)  # streams
    assert "Rain in Oslo." in str(done)


@flow
def structured_output_by_call(server):
    speak = model(server, is_function_calling_model=True).as_structured_llm(Greeting)
    assert speak.complete('[{"name": "Greeting", "parameters": {"word": "Hello"}}]').raw == Greeting(
        word="Hello"
    )


if __name__ == "__main__":
    main("llama-index-llms-openai-like", "llama-index-embeddings-openai-like", "llama-index-core", "openai")
