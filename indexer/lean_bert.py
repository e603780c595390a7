"""Texts through a BERT encoder: its arithmetic without its modules.

Of the milliseconds that a short question takes in transformers' modules, a fifth is Python between the
operations. There the interpreter is needed again for each of them, and the keyword leg, which works
meanwhile, has it. Several texts lie one behind the other, so none is padded and no mask is needed.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from indexer.seams import Vectors

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

SAMPLES = ("A text.", "A longer text, to see whether this path computes what the model's modules compute.")
TOLERANCE = 1e-5  # of an entry of a unit vector
CARD_TOLERANCE = 1e-3  # there factors may be rounded to ten bits (TF32): 2e-4 on an H100


class _Layer(NamedTuple):
    """Weight and bias of each product, and what the two norms need."""

    attended: tuple["torch.Tensor", "torch.Tensor"]  # queries, keys and values in one product
    mixed: tuple["torch.Tensor", "torch.Tensor"]
    mixed_norm: Any
    widened: tuple["torch.Tensor", "torch.Tensor"]
    narrowed: tuple["torch.Tensor", "torch.Tensor"]
    narrowed_norm: Any


class LeanBert:
    """The encoder with its pooling."""

    def __init__(self, encoder: Any, pools_first: bool) -> None:
        """`encoder` is a `BertModel` of transformers; raises `AttributeError` when it is built otherwise.

        A text's vector is that of its first token, or else the mean over all of them.
        """
        import torch

        self._first = pools_first
        self._heads = int(encoder.config.num_attention_heads)
        words = encoder.embeddings
        self._words, self._norm = words.word_embeddings.weight, words.LayerNorm
        self.device: torch.device = self._words.device  # where the weights are
        self._places = words.position_embeddings.weight + words.token_type_embeddings.weight[0]
        self._layers = []
        for layer in encoder.encoder.layer:
            of = layer.attention.self
            parts = (of.query, of.key, of.value)
            self._layers.append(
                _Layer(
                    (torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])),
                    (layer.attention.output.dense.weight, layer.attention.output.dense.bias),
                    layer.attention.output.LayerNorm,
                    (layer.intermediate.dense.weight, layer.intermediate.dense.bias),
                    (layer.output.dense.weight, layer.output.dense.bias),
                    layer.output.LayerNorm,
                )
            )

    @property
    def window(self) -> int:
        """Tokens of the longest text."""
        return len(self._places)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._words.shape[1])

    @property
    def tolerance(self) -> float:
        """How far an entry of a unit vector may be from the modules' on this device."""
        return CARD_TOLERANCE if self.device.type == "cuda" else TOLERANCE

    def vector(self, tokens: Sequence[int]) -> Vectors:
        """The unit vector of a text, shape (dimension,), from its ids with the special ones."""
        return np.asarray(self.vectors([tokens])[0])

    def vectors(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """Unit rows of texts, shape (texts, dimension); texts of a length are cheapest side by side."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([token for tokens in texts for token in tokens], device=self.device)
            rows = self.rows(ids, [len(tokens) for tokens in texts])
            return np.asarray(rows.cpu().numpy(), dtype=np.float32)

    def rows(self, ids: "torch.Tensor", lengths: Sequence[int]) -> "torch.Tensor":
        """Unit rows of texts whose ids lie one behind the other, all on the model's device."""
        import torch
        from torch.nn import functional as op

        places = [self._places[:length] for length in lengths]
        x = self._normal(self._words[ids] + torch.cat(places), self._norm)
        for layer in self._layers:
            seen = self._attended(op.linear(x, *layer.attended), lengths)
            x = self._normal(x + op.linear(seen, *layer.mixed), layer.mixed_norm)
            wide = op.gelu(op.linear(x, *layer.widened))
            x = self._normal(x + op.linear(wide, *layer.narrowed), layer.narrowed_norm)
        parts = x.split_with_sizes(lengths)
        pooled = torch.stack([part[0] if self._first else part.mean(dim=0) for part in parts])
        return op.normalize(pooled, dim=1)

    def _attended(self, three: "torch.Tensor", lengths: Sequence[int]) -> "torch.Tensor":
        """What each token sees of its own text; `three` is queries, keys and values side by side."""
        import torch
        from torch.nn import functional as op

        runs = [(length, len(list(some))) for length, some in groupby(lengths)]
        rows = [length * many for length, many in runs]
        parts = []
        for (length, many), part in zip(runs, three.split_with_sizes(rows), strict=True):
            heads = part.view(many, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            query, key, value = heads.unbind()
            seen = op.scaled_dot_product_attention(query, key, value)
            parts.append(seen.transpose(1, 2).reshape(many * length, -1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @staticmethod
    def _normal(x: "torch.Tensor", norm: Any) -> "torch.Tensor":
        import torch

        return torch.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def lean(
    model: "SentenceTransformer", samples: Sequence[Sequence[int]], expected: Vectors
) -> LeanBert | None:
    """The model as a `LeanBert`, if it is one; what decides is that it gives the samples' vectors.

    `samples` are token ids, `expected` the unit rows that the model's own modules made of them.
    """
    encoder = getattr(model[0], "auto_model", None)
    if type(encoder).__name__ != "BertModel":
        return None
    for pools_first in (False, True):
        try:
            found = LeanBert(encoder, pools_first)
            alone = np.stack([found.vector(tokens) for tokens in samples])
            ways = alone, found.vectors(samples)
            near = [np.abs(rows - expected).max() <= found.tolerance for rows in ways]
        except (AttributeError, RuntimeError, ValueError):  # built otherwise, or of another precision
            return None
        if all(near):
            return found
    return None
