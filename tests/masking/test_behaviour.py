"""Preferences and answers against naive loops and sure_model models."""

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from anbn.masking import behaviour, intervene, syntaxgym
from anbn.masking.evaluation import EvaluationError
from anbn.models import loading

SENTENCES = [
    "the cat sat on a mat.",
    "the dog ran far away today",
    "a mat",
    "the cat sat on a mat.",
    "the",
    "a dog would n't sat on the mat , today !",
]


def coded(language_model, texts):
    return [language_model.tokenizer(t)["input_ids"] for t in texts]


def naive(language_model, ids):
    """Nats of each token of one text, from a pass over it alone."""
    with torch.inference_mode():
        log_p = language_model.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [np.nan] + [-float(log_p[i - 1, ids[i]]) for i in range(1, len(ids))]


class Lookup(torch.nn.Module):
    """A causal model whose next token depends on the last one only."""

    def __init__(self, table):
        super().__init__()
        self.table = torch.nn.Parameter(torch.as_tensor(table, dtype=torch.float32))
        self.config = SimpleNamespace(
            get_text_config=lambda: SimpleNamespace(max_position_embeddings=64)
        )

    def get_input_embeddings(self):
        return self

    @property
    def weight(self):
        return self.table

    def forward(self, input_ids, attention_mask=None):
        return SimpleNamespace(logits=self.table[input_ids])


@pytest.fixture
def sure_model(tokenizer):
    """A model sure that "sat" follows "cat" and "ran" follows "dog"."""
    ids = tokenizer.get_vocab()
    table = np.zeros((len(tokenizer),) * 2)
    table[ids[" cat"], ids[" sat"]] = table[ids[" dog"], ids[" ran"]] = 5
    table[ids[" sat"], ids[" on"]] = 2
    return loading.LanguageModel(Lookup(table), tokenizer, "causal")


def test_surprisals_are_those_of_each_text_alone(llama):
    ids = [*coded(llama, SENTENCES), []]
    seen = []
    hook = llama.model.register_forward_pre_hook(
        lambda _, args, given: seen.append(given["input_ids"].shape), with_kwargs=True
    )
    try:
        found = behaviour.surprisals(llama, ids, batch_size=2)
    finally:
        hook.remove()
    for values, one in zip(found[:-1], ids[:-1], strict=True):
        np.testing.assert_allclose(values, naive(llama, one), rtol=1e-5)
    assert found[-1].size == 0
    assert sum(shape[0] for shape in seen) == 5  # the equal two are run once
    widths = [shape[1] for shape in seen]
    assert widths == sorted(widths)


def test_surprisals_with_a_token_before_the_text(llama, tokenizer):
    begun = copy.deepcopy(tokenizer)
    begun._tokenizer.post_processor = TemplateProcessing(
        single="[UNK] $A", special_tokens=[("[UNK]", 0)]
    )
    other = loading.LanguageModel(llama.model, begun, "causal")
    ids = coded(llama, SENTENCES[:1])
    (found,) = behaviour.surprisals(other, ids)
    np.testing.assert_allclose(found, naive(llama, [0, *ids[0]])[1:], rtol=1e-5)


def test_text_before_every_sentence(llama):
    ids = coded(llama, SENTENCES)
    (first,) = coded(llama, ["dog,"])
    found = behaviour.surprisals(llama, [*ids, []], before="dog,")
    for values, one in zip(found[:-1], ids, strict=True):
        np.testing.assert_allclose(values, naive(llama, first + one)[2:], rtol=1e-5)
    assert found[-1].size == 0
    pairs = pd.DataFrame({"good": SENTENCES[:1], "bad": SENTENCES[1:2]})
    margin = behaviour.minimal_pairs(llama, pairs, before="dog,")["margin"][0]
    assert margin == pytest.approx(found[1].sum() - found[0].sum(), abs=1e-4)


def test_minimal_pairs(llama, sure_model):
    pairs = pd.DataFrame(
        {
            "good": ["the cat sat on a mat", "the dog ran far", "the cat ran"],
            "bad": ["the cat ran on a mat", "the dog sat far", "the cat sat"],
            "set": ["x", "x", "y"],
        }
    )
    results = behaviour.minimal_pairs(sure_model, pairs)
    assert results["correct"].tolist() == [True, True, False]
    # "sat" after "cat" costs 5 less; then "on" is likelier after "sat", "far" less so
    n = len(sure_model.tokenizer)
    others = np.log((n - 1 + np.exp(2)) / n)
    np.testing.assert_allclose(results["margin"], [7 - others, 5 + others, -5], 1e-5)
    assert results["set"].tolist() == ["x", "x", "y"]
    total = [
        [-np.nansum(naive(llama, ids)) for ids in coded(llama, pairs[side])]
        for side in ("good", "bad")
    ]
    found = behaviour.minimal_pairs(llama, pairs)
    np.testing.assert_allclose(found["margin"], np.subtract(*total), atol=1e-4)


def test_pairs_of_a_suite():
    names = ("match_sing", "mismatch_sing", "match_plural", "mismatch_plural")
    items = {
        i: {name: syntaxgym.sentence([f"{name} {i}", "x"]) for name in names}
        for i in (1, 2)
    }
    suite = syntaxgym.Suite("number_a", "Agreement", (), items)
    pairs = behaviour.pairs_from_suite(suite)
    assert pairs["good"].tolist() == [
        f"match_{number} {i} x" for i in (1, 2) for number in ("sing", "plural")
    ]
    assert pairs["bad"].tolist() == ["mis" + good for good in pairs["good"]]
    assert pairs["condition"].tolist() == ["sing", "plural"] * 2


def test_multiple_choice_is_that_of_a_naive_loop(llama, sure_model):
    questions = pd.DataFrame(
        {
            "context": ["the cat sat on", "the dog ran "],
            "choices": [["a mat.", "the", "the dog ran"], ["far away today", "away"]],
            "answer": [2, 0],
            "domain": ["x", "y"],
        }
    )
    found = behaviour.multiple_choice(llama, questions)
    for row, question in questions.iterrows():
        context = question["context"].rstrip()
        n = len(llama.tokenizer(context)["input_ids"])
        scores = []
        for choice in question["choices"]:
            (ids,) = coded(llama, [f"{context} {choice}"])
            scores.append(-np.sum(naive(llama, ids)[n:]) / len(choice))
        answer = question["answer"]
        assert found["chosen"][row] == np.argmax(scores)
        assert found["correct"][row] == (np.argmax(scores) == answer)
        best = max(s for i, s in enumerate(scores) if i != answer)
        assert found["margin"][row] == pytest.approx(scores[answer] - best, abs=1e-5)
    assert found["domain"].tolist() == ["x", "y"]
    # divided by its length a long choice is not worse than a short one
    long = {"context": ["the cat"], "choices": [["sat far away", "mat"]], "answer": [0]}
    assert behaviour.multiple_choice(sure_model, pd.DataFrame(long))["correct"][0]


def documents_of(n, rng, n_words=40):
    words = [f"w{i}" for i in range(500)]
    texts = [" ".join(rng.choice(words, n_words)) for _ in range(n)]
    corpora = ["a" if i % 2 else "b" for i in range(n)]
    return pd.DataFrame({"corpus": corpora, "text": texts})


def test_continuations_are_a_documents_own_and_others(rng):
    documents = documents_of(12, rng)
    documents.loc[3, "text"] = "too short"
    questions = behaviour.continuations(documents, n_choices=4, rng=rng)
    assert sorted(questions["document"]) == [i for i in range(12) if i != 3]
    for question in questions.itertuples():
        words = documents["text"][question.document].split()
        assert question.context.split() == words[:24]
        assert question.domain == documents["corpus"][question.document]
        assert len(set(question.choices)) == 4
        for i, choice in enumerate(question.choices):
            same = documents[documents["corpus"] == question.domain]["text"]
            owners = [
                row for row, t in same.items() if t.split()[24:32] == choice.split()
            ]
            assert (owners == [question.document]) == (i == question.answer)
            assert len(owners) == 1
    assert questions["answer"].nunique() > 1
    again, repeated = (
        behaviour.continuations(documents, n_choices=4, rng=np.random.default_rng(5))
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(again, repeated)


def greedy(language_model, prompt, n):
    """Likeliest next tokens up to the end token, all read anew for each."""
    ids, new = language_model.tokenizer(prompt)["input_ids"], []
    while len(new) < n:
        given = torch.tensor([ids + new])
        with torch.inference_mode():
            logits = language_model.model(given, use_cache=False).logits
        token = int(logits[0, -1].argmax())
        if token == language_model.model.generation_config.eos_token_id:
            break
        new.append(token)
    return language_model.tokenizer.decode(new)


def test_generation_is_greedy_with_padding_cache_and_masks(llama, rng, monkeypatch):
    prompts = ["the cat sat on", "the", "a dog ran far away today , the cat"]
    llama.model.config.use_cache = False  # as load_model sets it
    assert llama.tokenizer.pad_token is None
    options = {"max_new_tokens": 6, "batch_size": 3}
    intact = behaviour.generate(llama, prompts, **options)
    assert intact == [greedy(llama, prompt, 6) for prompt in prompts]
    assert "" in intact and max(map(len, intact)) > 10  # one ends at once
    mask = rng.random((2, 40)) < 0.7
    with intervene.silence(llama.model, mask, "ffn_hidden"):
        silenced = behaviour.generate(llama, prompts, **options)
        assert silenced == [greedy(llama, prompt, 6) for prompt in prompts]
    assert silenced != intact
    own = llama.model.generation_config
    monkeypatch.setattr(own, "repetition_penalty", 3.0)  # as some checkpoints do
    monkeypatch.setattr(own, "no_repeat_ngram_size", 1)
    monkeypatch.setattr(own, "do_sample", True)
    assert behaviour.generate(llama, prompts, **options) == intact


def test_generation_reads_each_token_once(llama):
    lengths = []
    hook = llama.model.model.embed_tokens.register_forward_pre_hook(
        lambda _, given: lengths.append(given[0].shape[1])
    )
    try:
        behaviour.generate(llama, ["the cat sat"], max_new_tokens=5)
    finally:
        hook.remove()
    assert lengths == [3, 1, 1, 1, 1]


def test_chat_template_is_used_if_there_is_one(llama, tokenizer):
    chatty = copy.deepcopy(tokenizer)
    chatty.chat_template = "{% for m in messages %}the {{ m.content }} dog{% endfor %}"
    other = loading.LanguageModel(llama.model, chatty, "causal")
    options = {"max_new_tokens": 4}
    (plain,) = behaviour.generate(llama, ["the cat dog"], **options)
    assert behaviour.generate(other, ["cat"], **options) == [plain]
    direct = behaviour.generate(other, ["cat"], **options, chat_template=False)
    assert direct == behaviour.generate(llama, ["cat"], **options)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("News.", "news"),
        ("It is CODE!", "code"),
        ("fiction or news", ""),  # two labels
        ("newspaper", ""),  # no whole word
        ("news, news", "news"),
        ("\n\ncode\n\nText: more\nKind: news", "code"),  # its own next question
        ("I see.\nnews", ""),
        ("", ""),
        ("a how-to guide", "how-to"),
    ],
)
def test_labels_read_from_answers(answer, label):
    assert behaviour.named_label(answer, ["news", "code", "fiction", "how-to"]) == label


def test_classification_keeps_the_parse_rate_apart(llama, monkeypatch):
    prompts = pd.DataFrame({"prompt": ["the cat", "a dog"], "label": ["mat", "dog"]})
    results = behaviour.classify(llama, prompts, ["mat", "dog"], max_new_tokens=3)
    assert results["answer"].tolist() == [
        greedy(llama, p, 3) for p in ("the cat", "a dog")
    ]
    said = {"p0": "News", "p1": "news", "p2": "???", "p3": "fiction", "p4": "no idea"}
    monkeypatch.setattr(
        behaviour, "generate", lambda _, prompts, **options: [said[p] for p in prompts]
    )
    prompts = pd.DataFrame(
        {"prompt": list(said), "label": ["news", "fiction", "news", "fiction", "news"]}
    )
    results = behaviour.classify(llama, prompts, ["news", "fiction"])
    assert results["parsed"].tolist() == [True, True, False, True, False]
    assert results["predicted"].tolist() == ["news", "news", "", "fiction", ""]
    assert results["correct"].tolist() == [True, False, False, True, False]


def test_domain_prompts(rng):
    documents, domains = documents_of(8, rng), {"a": "news", "b": "fiction"}
    asked, examples = documents[:6], documents[6:]
    prompts = behaviour.domain_prompts(asked, domains, examples=examples, rng=rng)
    assert prompts["label"].tolist() == ["fiction", "news"] * 3
    start = [" ".join(text.split()[:20]) for text in documents["text"]]
    solved = [
        f"Text: {start[6]}\nKind: fiction\n\n",
        f"Text: {start[7]}\nKind: news\n\n",
    ]
    heads, orders = set(), set()
    for row, prompt in zip(prompts["document"], prompts["prompt"], strict=True):
        head, rest = prompt.split("\n\n", 1)
        heads.add(head)
        examples = rest.removesuffix(f"Text: {start[row]}\nKind:")
        orders.add(examples)
    assert heads == {f"Kinds of text: {x}." for x in ("news, fiction", "fiction, news")}
    assert orders == {"".join(solved), "".join(solved[::-1])}
    some = behaviour.domain_prompts(
        documents[:6].assign(corpus=["a", "b", "c"] * 2),
        domains,
        examples=documents[6:],
        rng=rng,
    )
    assert some["document"].tolist() == [0, 1, 3, 4]


def test_what_cannot_be_evaluated_is_told(llama, bert, rng):
    few, documents = documents_of(4, rng, n_words=20), documents_of(6, rng)
    asked, again = {"examples": documents[:4], "rng": rng}, documents[3:]

    def choose(choices, answer):
        questions = {"context": ["the"], "choices": [choices], "answer": [answer]}
        behaviour.multiple_choice(llama, pd.DataFrame(questions))

    def prompts(labels, documents=documents[4:]):
        behaviour.domain_prompts(documents, labels, **asked)

    for message, call in [
        ("surprisal .* head='none'", lambda: behaviour.surprisals(bert, [[1, 2]])),
        ("no text holds a token", lambda: behaviour.surprisals(llama, [[]])),
        ("generation needs a causal", lambda: behaviour.generate(bert, ["the"])),
        ("list of prompts.*'the cat'", lambda: behaviour.generate(llama, "the cat")),
        ("none of them empty", lambda: behaviour.generate(llama, ["the", ""])),
        (
            "exceed the 64 the model takes",
            lambda: behaviour.generate(llama, ["the cat"], max_new_tokens=63),
        ),
        ("question 0: .* list of choices", lambda: choose("the cat", 0)),
        ("index of the right one, .* -1", lambda: choose(["the", "cat"], -1)),
        (
            "'b': .* 2 documents of 32 words .* 0 of 2 .* has 20 words.* task_tokens",
            lambda: behaviour.continuations(few, n_choices=2, rng=rng),
        ),
        (
            "^domain_labels: 'news' is the beginning of 'Newspaper'",
            lambda: prompts({"a": "news", "b": "Newspaper"}),
        ),
        ("^domain_labels: .* 2 diff.* found .'x'.", lambda: prompts({"a": "x"})),
        ("^domain_labels: .* 'c', .* b, a", lambda: prompts({"c": "x", "a": "y"})),
        ("is also asked about", lambda: prompts({"a": "x", "b": "y"}, again)),
    ]:
        with pytest.raises(EvaluationError, match=message):
            call()


def test_a_model_that_predicts_nothing_finite(sure_model):
    sure_model.model.table.data[:] = torch.nan
    with pytest.raises(EvaluationError, match=r"no finite probability for 4 of 5 tok"):
        behaviour.surprisals(sure_model, [[1, 2, 3, 4, 5]])
