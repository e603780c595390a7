"""Haystack: a pipeline of retriever, prompt builder and chat generator over its store in memory."""

import os

os.environ.update(HAYSTACK_TELEMETRY_ENABLED="False", OPENAI_API_KEY="none")

from driver import SYSTEM, drive
from haystack import Document, Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.dataclasses import ChatMessage
from haystack.document_stores.in_memory import InMemoryDocumentStore

HUMAN = (
    "Sources:\n{% for one in documents %}[{{ loop.index }}] {{ one.content }}{{ '\n\n' if not loop.last }}"
    "{% endfor %}\n\nQuestion: {{ question }}"
)


def build(job):
    store = InMemoryDocumentStore(embedding_similarity_function="dot_product")
    store.write_documents(
        [
            Document(id=chunk["id"], content=chunk["text"], embedding=chunk["vector"])
            for chunk in job["chunks"]
        ]
    )
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=job["k"]))
    messages = [ChatMessage.from_system(SYSTEM), ChatMessage.from_user(HUMAN)]
    pipeline.add_component("prompt", ChatPromptBuilder(messages, required_variables="*"))
    pipeline.add_component(
        "model",
        OpenAIChatGenerator(
            model=job["model"],
            api_base_url=job["url"],
            generation_kwargs={"temperature": 0, "max_completion_tokens": job["tokens"]},
            max_retries=0,
        ),
    )
    pipeline.connect("retriever.documents", "prompt.documents")
    pipeline.connect("prompt.prompt", "model.messages")

    def ask(text, vector):
        data = {"retriever": {"query_embedding": vector}, "prompt": {"question": text}}
        told = pipeline.run(data, include_outputs_from={"retriever"})
        found = [document.id for document in told["retriever"]["documents"]]
        return told["model"]["replies"][0].text, found

    return ask


drive(build)
