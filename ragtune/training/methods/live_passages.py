"""The retrieved passages of a step, encoded by the passage encoder as it is now, with gradient.

Source: Siriwardhana et al. 2021, section 3, https://arxiv.org/abs/2106.11517
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ragtune.knowledge.retrieved import PADDING_ROW
from ragtune.models.encoders import Encoder
from ragtune.models.inputs import PassageRows

PASSAGE_INPUTS = ("passage_input_ids", "passage_attention_mask", "passage_places")


class PassageTokens:
    """The passage encoder's tokens of the passages that a run meets, each made once."""

    def __init__(self, encoder: Encoder, passages: PassageRows):
        """Set up; nothing is tokenised yet.

        Args:
            encoder: the passage encoder, whose tokenizer and padding are used.
            passages: what rows count in.
        """
        self.encoder = encoder
        self.passages = passages
        self._cache: dict[int, npt.NDArray[np.int32]] = {}

    def build(self, rows: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        """Build the inputs of `live_doc_embeddings` for the retrieved passages of a batch, each distinct one once.

        Args:
            rows: (B, k) rows of the passages; -1 for padding.

        Returns:
            `passage_input_ids` and `passage_attention_mask`, int64 (P, L), P distinct passages, L the longest;
            `passage_places`, int64 (B, k), which of the P a question's k-th passage is; 0 for padding.

        Example: rows [[7, 4], [4, -1]] give tokens of the passages 4 and 7, and the places [[1, 0], [0, 0]].
        """
        distinct, places = np.unique(rows, return_inverse=True)
        if distinct[0] == PADDING_ROW:
            distinct, places = distinct[1:], np.maximum(places - 1, 0)
        self._tokenise(distinct.tolist())
        input_ids, attention_mask = self.encoder.pad([self._cache[row].tolist() for row in distinct.tolist()])
        inputs = (input_ids, attention_mask, torch.from_numpy(places.reshape(rows.shape)))
        return dict(zip(PASSAGE_INPUTS, inputs, strict=True))

    def _tokenise(self, rows: list[int]) -> None:
        new = [row for row in rows if row not in self._cache]
        for row, tokens in zip(new, self.encoder.tokenize_passages([self.passages[row] for row in new]), strict=True):
            self._cache[row] = np.array(tokens, np.int32)


def live_doc_embeddings(
    encoder: Encoder, passage_input_ids: Tensor, passage_attention_mask: Tensor, passage_places: Tensor
) -> Tensor:
    """Vectors of retrieved passages, with gradient to the encoder.

    Args:
        encoder: the passage encoder.
        passage_input_ids, passage_attention_mask: (P, L), the distinct passages of a batch.
        passage_places: (B, k), which of them each retrieved one is; anything for padding, which must be masked.

    Returns:
        (B, k, d): d_k of s_k = q·d_k/τ.
    """
    return encoder(passage_input_ids, passage_attention_mask)[passage_places]
