"""LangChain: a retriever over FAISS, a prompt, the chat model and a parser, joined as in its guide."""

import os

os.environ.update(LANGCHAIN_TRACING_V2="false", LANGSMITH_TRACING="false")

from driver import HUMAN, SYSTEM, drive, numbered
from langchain_community.vectorstores import FAISS
from langchain_community.vectorstores.utils import DistanceStrategy
from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_openai import ChatOpenAI


class Known(Embeddings):
    """Every question's vector is known: embedding is not what is compared."""

    def __init__(self, vectors):
        self.vectors = vectors

    def embed_query(self, text):
        return self.vectors[text]

    def embed_documents(self, texts):
        raise NotImplementedError


def build(job):
    known = Known({one["text"]: one["vector"] for one in job["questions"]})
    store = FAISS.from_embeddings(
        [(chunk["text"], chunk["vector"]) for chunk in job["chunks"]],
        known,
        metadatas=[{"id": chunk["id"]} for chunk in job["chunks"]],
        distance_strategy=DistanceStrategy.MAX_INNER_PRODUCT,
    )
    found = []

    def context(documents):
        found[:] = [document.metadata["id"] for document in documents]
        return numbered(document.page_content for document in documents)

    retriever = store.as_retriever(search_kwargs={"k": job["k"]})
    prompt = ChatPromptTemplate.from_messages([("system", SYSTEM), ("human", HUMAN)])
    model = ChatOpenAI(
        model=job["model"],
        base_url=job["url"],
        api_key="none",
        temperature=0,
        max_completion_tokens=job["tokens"],
        max_retries=0,
    )
    chain = {"context": retriever | context, "question": RunnablePassthrough()}
    chain = chain | prompt | model | StrOutputParser()

    def ask(text, _):
        return chain.invoke(text), list(found)

    return ask


drive(build)
