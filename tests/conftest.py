"""Tiny models and texts that every test can make in a moment."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may wait for the network

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from anbn.models.loading import LanguageModel

torch.set_num_threads(2)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def one_thread():
    """Small models only wait for more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def close_figures():
    yield
    plt.close("all")


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


def tiny(model_class, config_class, tokenizer, head, n_layers):
    """A small model with seeded random weights."""
    torch.manual_seed(0)
    config = config_class(
        vocab_size=len(tokenizer),
        num_hidden_layers=n_layers,
        hidden_size=24,
        intermediate_size=40,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    return LanguageModel(
        model_class(config).eval().requires_grad_(False), tokenizer, head
    )


@pytest.fixture(scope="session")
def llama(tokenizer):
    """A Llama of two layers with grouped-query attention."""
    return tiny(LlamaForCausalLM, LlamaConfig, tokenizer, "causal", 2)


@pytest.fixture(scope="session")
def bert(tokenizer):
    """A BERT of three layers without a head."""
    return tiny(BertModel, BertConfig, tokenizer, "none", 3)


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """An empty folder of outputs."""
    monkeypatch.setenv("ANBN_OUTPUTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose five stages take a second each; a copy of the library in it."""
    from projects import write_project

    write_project(tmp_path)
    monkeypatch.setenv("ANBN_ROOT", str(tmp_path))
    monkeypatch.setenv("ANBN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def worker_processes():
    """Client of two worker processes, started once; a task may end one of them."""
    import dask
    from distributed import Client, LocalCluster

    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    options |= {"silence_logs": "CRITICAL", "env": {"OMP_NUM_THREADS": threads}}
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        with LocalCluster(**options) as cluster:
            with Client(cluster, set_as_default=False) as client:
                yield client


@pytest.fixture
def two_workers(worker_processes):
    """Client of two worker processes; one that died has come back."""
    worker_processes.wait_for_workers(2, timeout=60)
    return worker_processes


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
