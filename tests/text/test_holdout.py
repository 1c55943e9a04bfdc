import pytest

from anbn.text import holdout, stories

ONE = "the cat sat on a mat. the dog ran far away today would the cat. " * 6
TWO = "a dog would today run away from the far cat. a mat sat on the dog today. " * 6
THREE = "today the mat ran. far away a cat sat on the dog and would the dog sit. " * 6


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "wiki.txt"
    path.write_text("\n\n".join([ONE, TWO, THREE, ONE]))
    return path


def test_held_out_documents_share_nothing(tokenizer, corpus):
    options = {"n_documents": 2, "document_tokens": 30}
    tokens, documents = holdout.held_out_documents(
        tokenizer, [corpus], **options, used={}
    )
    assert tokens.groupby("document").size().tolist() == [30, 30]
    assert documents["corpus"].tolist() == ["wiki", "wiki"]
    assert documents["text"][0] == ONE[: len(documents["text"][0])]
    used = holdout.hashes([TWO])  # whole; evaluated would be its beginning
    _, documents = holdout.held_out_documents(tokenizer, [corpus], **options, used=used)
    assert [text[:5] for text in documents["text"]] == [ONE[:5], THREE[:5]]
    holdout.check_disjoint(documents, used)
    with pytest.raises(holdout.OverlapError, match="document 1 of wiki would be eval"):
        holdout.check_disjoint(documents, holdout.hashes(["No.\n\n" + THREE.upper()]))


def test_no_document_twice_and_too_few_are_named(tokenizer, corpus):
    options = {"document_tokens": 30, "used": {}}
    with pytest.raises(
        stories.StimulusError, match="expected 4 documents of 30 tokens"
    ):
        holdout.held_out_documents(tokenizer, [corpus], n_documents=4, **options)
    with pytest.raises(
        stories.StimulusError, match="found 0 \\(4 are shorter than this window, 0 were"
    ):
        holdout.held_out_documents(
            tokenizer, [corpus], n_documents=1, document_tokens=500, used={}
        )
    with pytest.raises(ValueError, match="2 tokens or more, found 1"):
        holdout.held_out_documents(
            tokenizer, [corpus], n_documents=1, document_tokens=1, used={}
        )


def test_short_sentences_may_be_shared():
    used = holdout.hashes(["Oh yes. The cat sat on a mat today."])
    assert holdout.shared("Oh yes. Another dog ran away from me.", used) == []
    assert holdout.shared("oh, yes! the CAT sat on a mat, today.", used)
