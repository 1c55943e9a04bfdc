"""Tiny models and texts that every test can make in a moment."""

import os

import numpy as np
import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may wait for the network
torch.set_num_threads(2)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tokenizer():
    """A fast word-level tokenizer that keeps blanks in front of words."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = "the cat sat on a mat . , ! would n't 's dog ran far away today".split()
    vocabulary = {
        w: i for i, w in enumerate(["[UNK]", *words, *[f" {w}" for w in words]])
    }
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[a-z]+| ?[^a-z ]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")


@pytest.fixture(scope="session")
def llama(tokenizer):
    """A Llama of two layers with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from anbn.models import LanguageModel

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return LanguageModel(model, tokenizer, "causal")


@pytest.fixture(scope="session")
def bert(tokenizer):
    """A BERT of three layers with random weights and no head."""
    from transformers import BertConfig, BertModel

    from anbn.models import LanguageModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    return LanguageModel(
        BertModel(config).eval().requires_grad_(False), tokenizer, "none"
    )


@pytest.fixture
def text(rng):
    words = rng.choice("the cat sat on a mat would dog ran far away today".split(), 150)
    return " ".join(words)


@pytest.fixture
def alice_data():
    """Folder of real data, or a skip that says why."""
    from pathlib import Path

    folder = os.environ.get("ANBN_DATA")
    if not folder or not (Path(folder) / "alice").is_dir():
        pytest.skip("ANBN_DATA is not set to a folder that holds alice/")
    return Path(folder)
