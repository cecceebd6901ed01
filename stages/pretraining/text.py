"""The captions' tokenizer: CLIP's, with a vocabulary in which each word is one token."""

import json

from tokenizers import trainers
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTokenizer

TOKENS = 32  # the text encoder's context length


def make_tokenizer(captions: list[list[str]]) -> CLIPTokenizer:
    """A byte-level CLIP tokenizer in which each word of the captions is one token."""
    blank = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1})
    trainer = trainers.BpeTrainer(
        vocab_size=10**5, min_frequency=2, end_of_word_suffix="</w>", show_progress=False
    )
    texts = (text for variants in captions for text in variants[:2])
    blank.backend_tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(blank.backend_tokenizer.to_str())["model"]["merges"]

    # CLIP's order: the special tokens, all letters, all letters that end a word, merged pairs
    alphabet = sorted(ByteLevel.alphabet())
    tokens = ["<|startoftext|>", "<|endoftext|>", *alphabet]
    tokens += [letter + "</w>" for letter in alphabet]
    tokens += ["".join(merge) for merge in merges]

    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    pairs = [tuple(merge) for merge in merges]
    return CLIPTokenizer(vocab=vocab, merges=pairs, model_max_length=TOKENS)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids, int64 (n, TOKENS)."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
