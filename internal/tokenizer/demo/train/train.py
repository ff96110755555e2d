#!/usr/bin/env python3
"""Train the demonstration tokenizer: a byte-level BPE of 8,192 tokens on text made of the word lists beside this file.

    pip install tokenizers==0.23.3
    train.py OUT.json.gz [--golden OUT.json]

The same library gives the same bytes every time: the seed is fixed and nothing else varies. --golden writes texts with
the ids that this library gives them, for the test of the Go side.
"""
import argparse
import gzip
import json
import pathlib
import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
SPECIAL = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>"]
# Letters with at most one other character before them, digits by threes, the rest by kind; blanks before a word stay
# with it. A word with its space is therefore one unit that no neighbour can change.
SPLIT = (r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
VOWELS = "aeiou"
PLURALS = {"calf": "calves", "child": "children", "foot": "feet", "goose": "geese", "half": "halves", "knife": "knives",
           "leaf": "leaves", "loaf": "loaves", "mouse": "mice", "ox": "oxen", "scarf": "scarves", "shelf": "shelves",
           "thief": "thieves", "tooth": "teeth", "wife": "wives", "wolf": "wolves", "woman": "women"}
NO_ADVERB = {"better", "little", "northern", "orange", "purple", "southern", "western", "wooden", "yellow"}


def words(name):
    return HERE.joinpath(name + ".txt").read_text().split()


def plural(noun):
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in VOWELS:
        return noun[:-1] + "ies"
    return noun + "s"


def doubles(verb):
    """Whether a verb doubles its last letter: one syllable that ends in consonant, vowel, consonant."""
    return (len(verb) > 2 and sum(c in VOWELS for c in verb) == 1 and verb[-1] not in VOWELS + "wxy"
            and verb[-2] in VOWELS and verb[-3] not in VOWELS)


def forms(verb):
    stem = verb + verb[-1] if doubles(verb) else verb
    if verb.endswith("ie"):
        return [verb, verb + "s", verb + "d", verb[:-2] + "ying"]
    if verb.endswith("e"):
        return [verb, verb + "s", verb + "d", (verb if verb.endswith("ee") else verb[:-1]) + "ing"]
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return [verb, plural(verb), verb[:-1] + "ied", verb + "ing"]
    return [verb, plural(verb), stem + "ed", stem + "ing"]


def adverb(adjective):
    if adjective.endswith("ly"):
        return adjective
    if adjective.endswith("le"):
        return adjective[:-1] + "y"
    if adjective.endswith("y") and adjective[-2] not in VOWELS:
        return adjective[:-1] + "ily"
    return adjective + ("ally" if adjective.endswith("ic") else "ly")


class Text:
    """Sentences of no meaning and ordinary shape. Words are drawn by a distribution in which the rarest word of a list
    is a tenth as common as the commonest, so that the whole list is worth tokens."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        nouns, verbs, adjectives = words("nouns"), words("verbs"), words("adjectives")
        irregular = [line.split() for line in HERE.joinpath("irregular.txt").read_text().splitlines()]
        self.nouns = self.ranked(nouns)
        self.plurals = self.ranked([plural(n) for n in nouns])
        self.verbs = self.ranked([f for v in verbs for f in forms(v)] + [f for v in irregular for f in v])
        self.adjectives = self.ranked(adjectives)
        self.adverbs = self.ranked([adverb(a) for a in adjectives if len(a) > 5 and a not in NO_ADVERB])
        lines = [line.split() for line in HERE.joinpath("other.txt").read_text().splitlines()]
        self.determiners, self.pronouns, self.prepositions, self.conjunctions, self.modals = map(self.ranked, lines[:5])
        self.others = self.ranked([w for line in lines[5:] for w in line])

    def ranked(self, list_):
        list_ = sorted(set(list_))
        self.random.shuffle(list_)
        list_.sort(key=len)  # short words are common words
        total, weights = 0.0, []
        for i in range(len(list_)):
            total += 1 / (1 + 9 * i / len(list_))
            weights.append(total)
        return list_, weights

    def word(self, kind):
        return self.random.choices(kind[0], cum_weights=kind[1])[0]

    def noun_phrase(self):
        parts = [self.word(self.determiners)] if self.random.random() < 0.5 else []
        if self.random.random() < 0.5:
            parts.append(self.word(self.adjectives))
        parts.append(self.word(self.nouns if self.random.random() < 0.6 else self.plurals))
        return parts

    def clause(self):
        parts = self.noun_phrase() if self.random.random() < 0.7 else [self.word(self.pronouns)]
        if self.random.random() < 0.2:
            parts.append(self.word(self.modals))
        if self.random.random() < 0.3:
            parts.append(self.word(self.adverbs))
        parts.append(self.word(self.verbs))
        if self.random.random() < 0.8:
            parts += self.noun_phrase()
        if self.random.random() < 0.5:
            parts += [self.word(self.prepositions)] + self.noun_phrase()
        if self.random.random() < 0.3:
            parts.append(self.word(self.others))
        return parts

    def sentence(self):
        text = " ".join(self.clause())
        if self.random.random() < 0.3:
            text += self.random.choice([", ", " "]) + self.word(self.conjunctions) + " " + " ".join(self.clause())
        return text[0].upper() + text[1:] + self.random.choice("....?!")

    def bare(self):
        """A word without a space before it, as at the start of a line. Short ones only: these tokens start prompts, and
        each costs one that could be a word with a space."""
        while True:
            word = self.word(self.random.choice([self.nouns, self.nouns, self.nouns, self.verbs, self.adjectives]))
            if 3 <= len(word) <= 6:
                return word

    def line(self):
        bare, number = self.bare, self.random.randrange
        return self.random.choice([
            lambda: "\n".join(bare() for _ in range(8)),
            lambda: f"{bare()}: {self.sentence()}",
            lambda: f"{bare()}\t{bare()}\t{number(1000)}",
            lambda: f"{bare()} = {number(100)}.{number(100)}",
            lambda: f'{{"{bare()}": "{bare()}", "{bare()}": {number(10000)}}}',
            lambda: f"def {bare()}_{bare()}({bare()}): return {bare()}[{number(10)}]",
            lambda: f"# {self.sentence()}",
            lambda: f"- {self.sentence()}",
            lambda: f"{number(24):02}:{number(60):02} {bare()} {' '.join(self.clause())}",
        ])()

    def paragraph(self):
        if self.random.random() < 0.6:
            return " ".join(self.sentence() for _ in range(self.random.randint(2, 6)))
        return "\n".join(self.line() for _ in range(self.random.randint(2, 6)))


def train(text):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=8192, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(text, trainer)
    return tokenizer


def golden(text):
    """Texts that a tokenizer can get wrong, and ordinary ones."""
    rng = random.Random(3)
    texts = ["", " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", " \n \n", " " * 300, "a", " a", "A", "0", "1234567",
             "3.14159", "-1e-9", "don't", "I'll we've it's", "HELLO World", "camelCase snake_case", "!?", "...",
             "?!?! ok", "<|user|>", "a<|user|>b <|assistant|> c", "<|nobody|>", "\u00e4\u00f6\u00fc \u00df",
             "\u00c7a va ?", "e\u0301 \u00e9", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440",
             "\u4f60\u597d\uff0c\u4e16\u754c", "\u3053\u3093\u306b\u3061\u306f", "\uc548\ub155\ud558\uc138\uc694",
             "\u0645\u0631\u062d\u0628\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947", "\U0001f600",
             "\U0001f469\u200d\U0001f680\U0001f3fd", "\ufeffbom", "\ufffd", "\u200b", "\x01\x1f\x7f",
             "a\u0300\u0301\u0302", "x" * 500, "ab" * 200, "the " * 100, "import os\n\n\nprint(1)",
             "for (int i = 0; i < n; i++) {\n\t\tx[i] *= 2;\n}\n", '{"a": [1, 2, {"b": null}]}',
             "https://example.org/a?b=c#d", "| a | b |\n|---|---|\n", "  leading", "trailing  ",
             "tab\tseparated\tvalues", "line\r\nline\rline\n"]
    texts += [text.paragraph() for _ in range(60)]
    texts += [" ".join(text.bare() for _ in range(rng.randint(1, 40))) for _ in range(40)]
    ranges = [(0x20, 0x7e), (0xa0, 0x24f), (0x370, 0x52f), (0x3040, 0x30ff), (0x4e00, 0x4fff), (0x1f300, 0x1f5ff)]
    for _ in range(100):
        texts.append("".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 30))))
    return texts


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out")
    arguments.add_argument("--golden")
    arguments = arguments.parse_args()
    text = Text(seed=1)
    tokenizer = train(text.paragraph() for _ in range(60_000))
    data = tokenizer.to_str().encode()
    pathlib.Path(arguments.out).write_bytes(gzip.compress(data, 9, mtime=0))
    print(f"{tokenizer.get_vocab_size()} tokens, {len(data)} bytes of JSON")
    if arguments.golden:
        pairs = [[t, tokenizer.encode(t, add_special_tokens=False).ids] for t in golden(Text(seed=2))]
        lines = ",\n".join(json.dumps(pair, separators=(",", ":")) for pair in pairs)
        pathlib.Path(arguments.golden).write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
