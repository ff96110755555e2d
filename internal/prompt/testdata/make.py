#!/usr/bin/env python3
"""Make the small tokenizers of kinds that the demonstration's is not, from the same text. Run in this folder:

    pip install tokenizers==0.23.3
    make.py

The same library gives the same files again, but for unigram, whose trainer is not that careful.

metaspace   as Mistral: BPE over a text whose spaces are "▁", with nothing that splits it into words
unigram     as T5: Unigram over words that begin with "▁"
superword   as SuperBPE: the first with a few tokens that reach from one word into the next
fixed       words cut every few characters wherever they stand, which no prompt of words can bear
"""
import gzip
import json
import pathlib
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tokenizer" / "demo" / "train"))
sys.dont_write_bytecode = True
import train  # noqa: E402


def sentences(n):
    text = train.Text(seed=4)
    return [text.sentence().lower() for _ in range(n)]


def metaspace():
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    t.train_from_iterator(sentences(20000), trainers.BpeTrainer(
        vocab_size=2500, special_tokens=special, show_progress=False))
    data = json.loads(t.to_str())
    data["pre_tokenizer"] = None
    data["added_tokens"] = data["added_tokens"][:3]
    data["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    return data


def unigram():
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.NFKC()
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    t.decoder = decoders.Metaspace(prepend_scheme="always")
    t.train_from_iterator(sentences(20000), trainers.UnigramTrainer(
        vocab_size=2500, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    return json.loads(t.to_str())


def superword():
    data = metaspace()
    vocabulary, merges = data["model"]["vocab"], data["model"]["merges"]
    pairs = [("▁of", "▁the"), ("▁in", "▁the"), ("▁may", "▁not"), ("▁as", "▁well"), ("e", "▁"),
             ("▁as▁well", "▁as")]
    for left, right in pairs:
        assert left in vocabulary and right in vocabulary, (left, right)
        vocabulary[left + right] = len(vocabulary)
    merges[:0] = [list(pair) for pair in pairs[4:5]]
    merges += [list(pair) for pair in pairs[:4] + pairs[5:]]
    return data


def fixed():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(sentences(3000), trainers.BpeTrainer(
        vocab_size=2500, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    data = json.loads(t.to_str())
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "FixedLength", "length": 100}, data["pre_tokenizer"]]}
    return data


for make in metaspace, unigram, superword, fixed:
    blob = json.dumps(make(), ensure_ascii=False, separators=(",", ":")).encode()
    Tokenizer.from_str(blob.decode())
    pathlib.Path(make.__name__ + ".json.gz").write_bytes(gzip.compress(blob, 9, mtime=0))
