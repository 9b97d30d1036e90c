"""Small tokenizers of every kind, with some of their letters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import (
    BertweetTokenizer,
    ByT5Tokenizer,
    CLIPTokenizer,
    CTRLTokenizer,
    PerceiverTokenizer,
    PhobertTokenizer,
    PreTrainedTokenizerFast,
)

TEXT = [
    "the cat and the dog, over there",
    "über café naïve",
    "strawberry raspberry blueberry",
    "ein Hund, zwei Hunde; 3 Katzen!",
] * 3

Letters = Mapping[str, bytes]


def assembled(model: Any, *added: AddedToken | str, **parts: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.add_tokens(list(added))
    return tokenizer


def merges_of(vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every way to split a piece in two pieces, in the order of the ids."""
    pairs = [
        (piece[:k], piece[k:])
        for piece in sorted(vocabulary, key=vocabulary.__getitem__)
        for k in range(1, len(piece))
    ]
    return [(left, right) for left, right in pairs if {left, right} <= vocabulary.keys()]


def gemma() -> tuple[Tokenizer, Letters]:
    """Runs of spaces and of line breaks are pieces of the model and added tokens."""
    runs = ["▁▁", "▁▁▁", "▁▁▁▁", "\n\n", "\t\t", "<table>"]
    pieces = ["<pad>", "<bos>", "<unk>", *runs, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "\n", "\t", *"abcdefght", "th", "the", "▁the", "▁a", "ab"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [pair for pair in merges_of(vocabulary) if "<" not in "".join(pair)]
    model = models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    tokenizer = assembled(
        model,
        *(AddedToken(run, normalized=False) for run in runs),
        normalizer=normalizers.Replace(" ", "▁"),
        pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous"),
        decoder=decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        ),
    )
    tokenizer.add_special_tokens(["<pad>", "<bos>", "<unk>"])
    return tokenizer, {"▁▁": b"  ", "▁▁▁▁": b"    ", "\n\n": b"\n\n", "<0xE6>": b"\xe6"}


def llama() -> tuple[Tokenizer, Letters]:
    tokenizer, _ = gemma()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_tokens([AddedToken("▁cat", normalized=True), AddedToken("dog", lstrip=True)])
    return tokenizer, {"▁the": b" the", "▁cat": b"  cat", "dog": b" dog"}


def unigram(sign: str = "▁", scheme: str = "always") -> tuple[Tokenizer, Letters]:
    tokenizer = assembled(
        models.Unigram(),
        normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
        pre_tokenizer=pre_tokenizers.Metaspace(sign, scheme),
        decoder=decoders.Metaspace(sign, scheme),
    )
    special = {"unk_token": "<unk>", "special_tokens": ["<unk>"], "show_progress": False}
    tokenizer.train_from_iterator(TEXT, trainers.UnigramTrainer(vocab_size=80, **special))
    return tokenizer, {sign: b" ", f"{sign}the": b" the"}


def another_sign(decoder: bool = True) -> tuple[Tokenizer, Letters]:
    pieces = ["_", *"abcdeht▁", "th", "the", "_the", "_▁a"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = assembled(
        models.BPE(vocabulary, merges_of(vocabulary)),
        pre_tokenizer=pre_tokenizers.Metaspace("_", "first"),
    )
    if decoder:
        tokenizer.decoder = decoders.Metaspace("_", "first")
    return tokenizer, {"_the": b" the", "the": b"the", "_▁a": " ▁a".encode(), "_": b" "}


def word_piece(prefix: str = "##") -> tuple[Tokenizer, Letters]:
    tokenizer = assembled(
        models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=prefix),
        normalizer=normalizers.BertNormalizer(),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.WordPiece(prefix),
    )
    trainer = trainers.WordPieceTrainer(
        vocab_size=160,
        special_tokens=["[UNK]", "[CLS]"],
        continuing_subword_prefix=prefix,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_tokens(["xylo"])
    return tokenizer, {"the": b" the", f"{prefix}e": b"e", "xylo": b" xylo", ",": b" ,"}


def bpe_with_a_prefix() -> tuple[Tokenizer, Letters]:
    pieces = ["a", "b", "t", "##b", "##a", "##h", "##e", "th", "the", "ab"]
    pieces = [*"abt", *("##" + letter for letter in "abhe"), "th", "the", "ab"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [("t", "##h"), ("th", "##e"), ("a", "##b")]
    tokenizer = assembled(
        models.BPE(vocabulary, merges, continuing_subword_prefix="##"),
        pre_tokenizer=pre_tokenizers.WhitespaceSplit(),
        decoder=decoders.WordPiece("##"),
    )
    return tokenizer, {"the": b" the", "##b": b"b"}


def byte_level(normalizer: bool = False) -> tuple[Tokenizer, Letters]:
    tokenizer = assembled(models.BPE(), decoder=decoders.ByteLevel())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    if normalizer:
        tokenizer.normalizer = normalizers.ByteLevel()
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(" ?[^ ]+|\\s+"), "isolated")
    # the first is a piece of the model too, so that it stands for a space
    added = ["Ġthe", "   ", "<|tool|>", "straw berry"]
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in added])
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer, {"Ġthe": b" the", "   ": b"   ", "Ã": b"\xc3", "straw berry": b"straw berry"}


def end_of_word() -> tuple[Tokenizer, Letters]:
    tokenizer = assembled(
        models.BPE(end_of_word_suffix="</w>", unk_token="<unk>"),
        pre_tokenizer=pre_tokenizers.Whitespace(),
        decoder=decoders.BPEDecoder("</w>"),
    )
    trainer = trainers.BpeTrainer(
        vocab_size=90,
        end_of_word_suffix="</w>",
        special_tokens=["<unk>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer, {"the</w>": b"the ", "t": b"t", "e</w>": b"e "}


def a_decoder_with_a_pattern() -> tuple[Tokenizer, Letters]:
    pieces = ["~", *"abeht", "the", "~~the", "th", "~the"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = assembled(
        models.BPE(vocabulary, merges_of(vocabulary)),
        normalizer=normalizers.Replace(" ", "~"),
        decoder=decoders.Sequence([decoders.Replace(Regex("~+"), " "), decoders.Fuse()]),
    )
    return tokenizer, {"~the": b" the", "~~the": b" the", "the": b"the"}


def ctc() -> tuple[Tokenizer, Letters]:
    vocabulary = {piece: i for i, piece in enumerate(["<pad>", "|", *"abcdeht"])}
    tokenizer = assembled(models.WordLevel(vocabulary, "<pad>"), decoder=decoders.CTC())
    tokenizer.add_special_tokens(["<pad>"])
    return tokenizer, {"|": b" ", "a": b"a"}


def small_tiktoken() -> tuple[Any, Letters]:
    ranks = {bytes([i]): i for i in range(256)}
    ranks |= {word: 256 + i for i, word in enumerate([b"th", b"the", b" the", b"ab", b"\xc3\xa9"])}
    encoding = tiktoken.Encoding(
        "small", pat_str=r"(?s:.+)", mergeable_ranks=ranks, special_tokens={"<|end|>": 270}
    )
    return encoding, {}


def byt5() -> tuple[Any, Letters]:
    return ByT5Tokenizer(), {"a": b"a", "Ã": b"\xc3", "\x80": b"\x80", "<extra_id_0>": b""}


def perceiver() -> tuple[Any, Letters]:
    return PerceiverTokenizer(), {"a": b"a", "Ã": b"\xc3", "\x80": b"\x80", "[CLS]": b""}


SUBWORD_NMT = ["the", "th@@", "e", "t@@", "h@@", "he", "cat", "ab@@", "abc@@"]


def ctrl(folder: Path) -> tuple[Any, Letters]:
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", *SUBWORD_NMT])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\nh e</w>\n")
    tokenizer = CTRLTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    return tokenizer, {"the": b"the ", "th@@": b"th", "e": b"e "}


def phobert(folder: Path, kind: Any = PhobertTokenizer) -> tuple[Any, Letters]:
    (folder / "vocab.txt").write_text("".join(f"{piece} 1\n" for piece in SUBWORD_NMT))
    (folder / "bpe.codes").write_text("t h 3\nth e</w> 2\nh e</w> 1\n")
    tokenizer = kind(str(folder / "vocab.txt"), str(folder / "bpe.codes"))
    return tokenizer, {"the": b"the ", "th@@": b"th", "e": b"e "}


def bertweet(folder: Path) -> tuple[Any, Letters]:
    return phobert(folder, BertweetTokenizer)


def clip() -> tuple[Any, Letters]:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "th", "the</w>"]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[("t", "h"), ("th", "e</w>")])
    return tokenizer, {"the</w>": b"the ", "Ã": b"\xc3", "th": b"th", "<|endoftext|>": b""}


def sentencepiece(folder: Path) -> tuple[Any, Letters]:
    library = pytest.importorskip("sentencepiece")
    text = folder / "text.txt"
    text.write_text("\n".join(TEXT * 5))
    library.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "small"),
        model_type="bpe",
        vocab_size=350,
        byte_fallback=True,
        user_defined_symbols=["▁▁", "<tool>"],
        control_symbols=["[INST]"],
        minloglevel=2,
    )
    processor = library.SentencePieceProcessor(model_file=str(folder / "small.model"))
    return processor, {"▁the": b" the", "▁▁": b"  ", "<0xE6>": b"\xe6", "[INST]": b"", "<s>": b""}


# name -> function without arguments, or of a folder to write into
KINDS: dict[str, Callable[..., tuple[Any, Letters]]] = {
    "Gemma": gemma,
    "Llama": llama,
    "Unigram with NFKC": unigram,
    "Metaspace never": lambda: unigram(scheme="never"),
    "Metaspace with another sign": another_sign,
    "Unigram with another sign": lambda: unigram("_", "first"),
    "WordPiece": word_piece,
    "WordPiece with another prefix": lambda: word_piece("~~"),
    "BPE with a prefix": bpe_with_a_prefix,
    "byte-level": byte_level,
    "byte-level normalizer": lambda: byte_level(normalizer=True),
    "</w>": end_of_word,
    "a pattern": a_decoder_with_a_pattern,
    "CTC": ctc,
    "tiktoken": small_tiktoken,
    "ByT5": byt5,
    "Perceiver": perceiver,
    "CLIP": clip,
}
KINDS_WITH_FILES: dict[str, Callable[[Path], tuple[Any, Letters]]] = {
    "CTRL": ctrl,
    "PhoBERT": phobert,
    "BERTweet": bertweet,
    "SentencePiece": sentencepiece,
}


def made(name: str, folder: Path) -> tuple[Any, Letters]:
    """Return the tokenizer of a name, and the letters of some of its pieces."""
    return KINDS[name]() if name in KINDS else KINDS_WITH_FILES[name](folder)


def id_of(tokenizer: Any, piece: str) -> int:
    """Return the id of a piece."""
    find = getattr(tokenizer, "token_to_id", None) or getattr(tokenizer, "piece_to_id", None)
    found = find(piece) if find else tokenizer.get_vocab()[piece]
    assert isinstance(found, int), piece
    return found


def wrapped(tokenizer: Any) -> Any:
    """Return a tokenizers.Tokenizer as transformers uses it, others as they are."""
    if isinstance(tokenizer, Tokenizer):
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return tokenizer
