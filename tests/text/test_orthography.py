"""Words as they are written, from rows as aligners and tokenizers give them."""

import pandas as pd
import pytest
from spoken import table, timed

from anbn.text import orthography, stories

WRITTEN = [
    ("The | apple | fell | , | not | far | :", "The apple fell, not far:"),
    ('" | the | tree | " | . | ( | Why | ? | )', '"the tree". (Why?)'),
    ("He | said | , | “ | Oh | ! | ” | “ | No | . | ”", "He said, “Oh!” “No.”"),
    # tokens of the Penn Treebank
    ("`` | Oh | , | '' | he | said | ...", '"Oh," he said...'),
    ("-LRB- | nearly | -RRB- | so | -LSB- | on | -RSB-", "(nearly) so [on]"),
    ("rock | 'n' | roll | , | fish | ’n’ | chips", "rock 'n' roll, fish ’n’ chips"),
    ("rock | n' | roll | is | n't | don | 't", "rock n' roll isn't don't"),
    ("# | 1 | of | b | + | c | = | d", "#1 of b + c = d"),
    # Dutch
    ("om | 's | ochtends | hij | 't | schip | zag", "om 's ochtends hij 't schip zag"),
    ("’s | Avonds | in | 's-Hertogenbosch | z'n", "’s Avonds in 's-Hertogenbosch z'n"),
    ("van | 't | jaar | Piet | 's | hoed", "van 't jaar Piet's hoed"),
    ("said | 'Twas | Alice | ’s, | he | 'LL | 'em", "said 'Twas Alice’s, he'LL 'em"),
    ("ca | n't | he | 'll | 's | rabbit-hole", "can't he'll's rabbit-hole"),
    ("rabbit | - | hole | and | / | or", "rabbit-hole and/or"),
    ("rabbit | -hole | th- | the | -5", "rabbit-hole th- the -5"),
    ("so | — | he | – | or | -- | she", "so—he – or -- she"),
    ("the | boys' | goin' | ol' | man", "the boys' goin' ol' man"),
    ("$ | 5 | or | 50 | % | & | 3", "$5 or 50% & 3"),
    ('"Oh | " | he | " | no | "', '"Oh" he "no"'),
    ("' | Oh | ' | he | said", "'Oh' he said"),
    ("( | he | ) | 3.5 | a.m. | , | so", "(he) 3.5 a.m., so"),
    # French
    (
        "l' | homme | qu' | il | aime | n' | est | pas | là | .",
        "l'homme qu'il aime n'est pas là.",
    ),
    ("C’ | est | aujourd’ | hui | , | jusqu' | à", "C’est aujourd’hui, jusqu'à"),
    ("« | Pourquoi | ? | » | dit | -il", "«Pourquoi?» dit-il"),
    ("L' | an | D' | où | quelqu' | un | m' | a", "L'an D'où quelqu'un m'a"),
    # Italian, Catalan, Spanish, German
    ("dell' | acqua | un | po' | d' | olio | c' | è", "dell'acqua un po' d'olio c'è"),
    ("l' | home | d' | Alacant", "l'home d'Alacant"),
    ("¿ | Qué | ? | — | Nada | . | ¡ | Ay | !", "¿Qué? —Nada. ¡Ay!"),
    ("„ | Ja | “ | , | sagt | er | : | » | Gut | «", "„Ja“, sagt er: »Gut«"),
    # without blanks
    ("我 | 早上 | 喝 | 了 | 咖啡 | 。 | 好 | ！", "我早上喝了咖啡。好！"),
    ("他 | 说 | ： | “ | 好 | ” | ， | 走 | 了", "他说：“好”，走了"),
    ("我 | 用 | iPhone | 15 | 打 | 电话", "我用iPhone 15打电话"),
    ("吾輩 | は | 猫 | で | ある | 。", "吾輩は猫である。"),
    ("แมว | นอน | อยู่", "แมวนอนอยู่"),
    ("나는 | 갔다 | .", "나는 갔다."),
    ("the | sign | 我 | means | I", "the sign 我 means I"),
]


@pytest.mark.parametrize("rows, text", WRITTEN)
def test_the_text_is_as_written(write, rows, text):
    rows = rows.split(" | ")
    lines = [f"{word}\t{on}\t{off}" for word, on, off in timed(rows)]
    path = write("\n".join(["word\tonset\toffset", *lines]))
    words, read, *_ = stories.read_story(path)
    assert read == text
    assert [read[a:b] for a, b in zip(words["start"], words["end"], strict=True)] == (
        words["word"].tolist()
    )
    for word, onset in zip(words["word"], words["onset"], strict=True):
        if rows.count(word) == 1 and (words["word"] == word).sum() == 1:
            assert onset == rows.index(word)  # unchanged: its own time


def test_punctuation_has_no_time_of_its_own(read):
    rows = [("(", 0, 1), ("Oh", 1, 2), ("!", 2, 3), (")", "", ""), ("no", 4, 5)]
    found = read(table(rows))
    assert found.words["word"].tolist() == ["(Oh!)", "no"]
    assert found.words[["onset", "offset"]].to_numpy().tolist() == [[1, 2], [4, 5]]
    assert found.words["timed"].all()
    assert "rows of punctuation alone, joined to their words: 3" in found.notes


@pytest.mark.parametrize(
    "text, words",
    [
        ("Oh, no -- not 1,984!", ["Oh,", "no", "--", "not", "1,984!"]),
        ("« Pourquoi ? » dit-il.", ["« Pourquoi ? »", "dit-il."]),
        ("我喝咖啡。“好”", ["我", "喝", "咖", "啡。", "“好”"]),
        ("ちょっと スーパー", ["ちょっ", "と", "スー", "パー"]),
        ("用iPhone打", ["用", "iPhone", "打"]),
        ("", []),
    ],
)
def test_words_of_running_text(text, words):
    assert stories.split_words(text)["word"].tolist() == words


def test_a_row_of_chinese_is_a_word_unless_it_is_a_sentence():
    def parts(text):
        return [text[a:b] for a, b in orthography.split_row(text)]

    assert parts("咖啡") == ["咖啡"]
    assert parts("我早，他晚") == ["我", "早，", "他", "晚"]
    assert len(parts("我早上喝了咖啡然后走")) == 10
    assert len(parts("我早上喝了咖啡。")) == 7
    assert parts("コンピューター。") == ["コンピューター。"]


def test_punctuation_alone_stays():
    rows = pd.DataFrame({"word": ["...", "!"], "onset": 0.0, "offset": 1.0})
    words, n_joined = orthography.as_written(rows)
    assert words["word"].tolist() == ["...", "!"] and n_joined == 0


def test_hyphens_of_their_own_are_said(read):
    found = read(table(timed(["well", "-", "known"])))
    assert stories.join_words(found.words) == "well-known"
    assert any(note.startswith("rows of a hyphen alone: 1") for note in found.notes)
