"""LlamaIndex: a query engine over an index in FAISS."""

import faiss
import numpy as np
from driver import HUMAN, SYSTEM, drive
from llama_index.core import Settings, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.prompts import ChatPromptTemplate
from llama_index.core.schema import TextNode
from llama_index.llms.openai_like import OpenAILike
from llama_index.vector_stores.faiss import FaissVectorStore


class Known(BaseEmbedding):
    """Every question's vector is known: embedding is not what is compared."""

    vectors: dict[str, list[float]]

    def _get_query_embedding(self, query):
        return self.vectors[query]

    async def _aget_query_embedding(self, query):
        return self.vectors[query]

    def _get_text_embedding(self, text):
        raise NotImplementedError


def build(job):
    Settings.tokenizer = str.split  # its own asks the network for a vocabulary; this one is cheaper
    dimension = len(job["chunks"][0]["vector"])
    store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(dimension))
    nodes = [
        TextNode(id_=chunk["id"], text=chunk["text"], embedding=np.asarray(chunk["vector"]).tolist())
        for chunk in job["chunks"]
    ]
    known = Known(vectors={one["text"]: one["vector"] for one in job["questions"]})
    index = VectorStoreIndex(
        nodes, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=known
    )
    model = OpenAILike(
        model=job["model"],
        api_base=job["url"],
        api_key="none",
        is_chat_model=True,
        context_window=32_768,
        temperature=0,
        max_tokens=job["tokens"],
        max_retries=0,
    )
    human = HUMAN.replace("{context}", "{context_str}").replace("{question}", "{query_str}")
    template = ChatPromptTemplate(
        [
            ChatMessage(role=MessageRole.SYSTEM, content=SYSTEM),
            ChatMessage(role=MessageRole.USER, content=human),
        ]
    )
    engine = index.as_query_engine(similarity_top_k=job["k"], llm=model, text_qa_template=template)

    def ask(text, _):
        answer = engine.query(text)
        return str(answer), [found.node.node_id for found in answer.source_nodes]

    return ask


drive(build)
