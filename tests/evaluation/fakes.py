"""Small models and a tokenizer with known answers, so that the results of the adapter can be recounted."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import torch
from torch import Tensor, nn

END = 0


class Letters:
    """One token a character (its code point, below 128); the end token is 0 and stands for no text."""

    end_id = END
    vocab_size = 128

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(chr(token) for token in tokens if token != END)


class Pairs(nn.Module):
    """A model that predicts from the last token alone: what a text scores is a sum that windows cannot change."""

    def __init__(self, logits_VV: Tensor) -> None:
        super().__init__()
        self.logits_VV = nn.Parameter(logits_VV)
        self.num_rows, self.num_tokens = 0, 0

    def forward(self, tokens_BS: Tensor) -> SimpleNamespace:
        self.num_rows += tokens_BS.shape[0]
        self.num_tokens += tokens_BS.numel()
        return SimpleNamespace(logits_BSV=self.logits_VV[tokens_BS])


def random_pairs(seed: int = 0, vocab_size: int = Letters.vocab_size) -> Pairs:
    return Pairs(torch.randn(vocab_size, vocab_size, generator=torch.Generator().manual_seed(seed)))


def successor_pairs(text: str, *, then: int = END) -> Pairs:
    """Return a model that spells `text` greedily, whose letters must differ, then says `then` and begins again."""
    logits_VV = torch.zeros(Letters.vocab_size, Letters.vocab_size)
    tokens = [*(ord(letter) for letter in text), then, ord(text[0])]
    for token, following in itertools.pairwise(tokens):
        logits_VV[token, following] = 5.0
    return Pairs(logits_VV)


class Causal(nn.Module):
    """A model in which every earlier token counts, by its distance too: an error of one position shows."""

    def __init__(self, seed: int = 0, vocab_size: int = Letters.vocab_size, width: int = 16) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Parameter(torch.randn(vocab_size, width, generator=generator))
        self.mixing = nn.Parameter(torch.randn(2, width, width, generator=generator) / width**0.5)
        self.head = nn.Parameter(torch.randn(width, vocab_size, generator=generator))

    def forward(self, tokens_BS: Tensor) -> SimpleNamespace:
        x_BSD = self.embedding[tokens_BS]
        states = []
        state_BD = torch.zeros_like(x_BSD[:, 0])
        for x_BD in x_BSD.unbind(1):
            state_BD = torch.tanh(x_BD @ self.mixing[0] + state_BD @ self.mixing[1])
            states.append(state_BD)
        return SimpleNamespace(logits_BSV=torch.stack(states, 1) @ self.head)
