#!/usr/bin/env python3
"""Makes wan/prompts.json and wan/tokenizer/: prompts as WanPipeline cleans and tokenizes them.

    python make_wan_prompts.py

prompts.json: {"text", "clean", "ids"} of multilingual and hostile strings. "clean" is left out where
it equals "text"; it is diffusers' prompt_clean without ftfy (which is not run even if installed).
"references": a checksum over all of HTML's named character references.
wan/tokenizer is a tiny tokenizer of UMT5's kind, trained here: pad 0, eos 1, <s> 2, unk 3, character
map, 30 sentinels, in the files that Wan publishes. "ids" are those of transformers' T5TokenizerFast,
the same from either vocabulary file, but for unknown characters: since version 5 it takes id 2 for them
whatever the files say, which is <s> in UMT5's vocabulary, so that its unk_id is put right here.
transformers 4 ran tokenizer.json as written: the same ids, unless a text has "▁" or characters that the
map turns into spaces (checked here).
"""
import html.entities
import importlib.metadata
import json
import pathlib
import shutil
import tempfile

import diffusers
import diffusers.pipelines.wan.pipeline_wan as pipeline_wan
import sentencepiece
import sentencepiece.sentencepiece_model_pb2 as sentencepiece_proto
import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

import make_tokenizers

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = HERE / "wan" / "tokenizer"
EXTRA_IDS = 30
MAX_LENGTH = 512
HTML = [
    "&amp;", "&amp;amp;", "&amp;amp;amp;lt;", "&lt;b&gt;cat&lt;/b&gt;", "&quot;a&quot; &#39;b&#39;", "&apos;", "a &amp b", "a&ampb",
    "R&D", "AT&T", "&", "&&", "&;", "&#", "&#;", "&#x", "&#x;", "&#xg", "& amp;", "&\tamp;", "&am\np;", "&copy", "&copy;", "&copycat",
    "&COPY;", "&Copy;", "&notit;", "&notin;", "&notinva;", "&notinxyz", "&NotEqualTilde;", "&acE;", "&fjlig;", "&nbsp;", "a&nbsp;b", "a&nbsp;&nbsp;b&nbsp;",
    "&Tab;x&NewLine;y", "&ensp;a&emsp;b&thinsp;c&hairsp;", "&zwj;&zwnj;&lrm;&rlm;&shy;", "&ZeroWidthSpace;a", "&CounterClockwiseContourIntegral;",
    "&CounterClockwiseContourIntegral", "&" + "a" * 31 + ";", "&" + "a" * 32 + ";", "&" + "a" * 33 + ";", "&" + "漢" * 32 + ";", "&amp漢;", "&thorn漢", "&thorny;", "&THORN",
    "&gt", "&g", "&gtr", "&lt<", "&lt&lt", "&lt#", "&l t;", "&LT;&GT;&QUOT;&AMP;", "&Amp;", "&aacute;&Aacute;&aacut;e", "&eacute &eacute;",
    "&#65;", "&#65", "&#65x", "&#0065;", "&#x41;", "&#X41", "&#x41g", "&#x0000000041;", "&#0;", "&#x0;", "&#00", "&#1;", "&#8;", "&#9;x", "&#10;x", "&#11;x", "&#12;x",
    "&#13;x", "&#14;", "&#31;", "&#32;x", "&#127;", "&#128;", "&#129;", "&#x8d;", "&#146;s", "&#x9F;", "&#159;", "&#160;", "&#x1c;a", "&#55296;", "&#xDFFF;", "&#xD7FF;", "&#xE000;",
    "&#xFDCF;", "&#xFDD0;", "&#xFDEF;", "&#xFDF0;", "&#xFFFD;", "&#xFFFE;", "&#xFFFF;", "&#x1FFFE;", "&#x10FFFD;", "&#x10FFFF;", "&#x110000;", "&#1114112;", "&#4294967361;",
    "&#18446744073709551681;", "&#x100000041;", "&#" + "9" * 200 + ";", "&#x" + "F" * 200 + ";", "&#٣;", "&#x1F34E;", "&#127822;", "&amp;#x1F34E;", "&amp;#38;amp;", "&#38;amp;",
    "&#38;#38;", "&#x26;lt;", "&ltimes;", "&ltime", "&timesbar;", "&timesba", "&sup2;&sup", "&frac12", "&frac15;", "&para&parallel;", "&cent&centerdot;", "&uml&umlaut",
    "&bne;", "&nvlt;", "&ThickSpace;x", "&Hat;", "&hat;", "&lcub;&rcub;", "&NoBreak;",
]
SPACES = ["a\x1cb\x1db\x1eb\x1fb", "a\x0bb\x0cb", " \x85 a \xa0 b ", "\u1680a\u180eb\u2000c\u200ad\u200be", "a\u2028b\u2029c\u202fd\u205fe\u3000f",
          "\ufeffa\ufeff", "  a \t\r\n  b  ", "\u2060a\u2060", "&#32;&#9; a &#10;", "a\u200b b", "a \u200b", "\u3000全角　空白\u3000"]
LONG = ["a red apple " * 300, "漢字" * 400, "word&nbsp;&amp; " * 250]


def train(texts):
    """A SentencePiece model with ids as UMT5's and a character map of a few rules."""
    rules = {chr(0xFF01 + i): chr(0x21 + i) for i in range(94)}
    rules |= {"\u3000": " ", "\u200b": " ", "\xa0": " ", "\xad": "", "ﬁ": "fi", "ﬂ": "fl", "①": "1", "½": "1⁄2",
              "e\u0301": "é", "…": "..."}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "corpus").write_text("\n".join(texts))
        (folder / "rules.tsv").write_text("".join(
            " ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n"
            for source, target in rules.items()))
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "corpus"), model_prefix=str(folder / "model"), vocab_size=330 - EXTRA_IDS,
            model_type="unigram", pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>",
            normalization_rule_tsv=str(folder / "rules.tsv"), character_coverage=1.0,
            num_threads=1, minloglevel=2)
        return (folder / "model.model").read_bytes()


def convert(model):
    """tokenizer.json as transformers 4 converted such a model."""
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    pieces += [(f"<extra_id_{i}>", 0.0) for i in range(EXTRA_IDS - 1, -1, -1)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
        normalizers.Strip(left=False), normalizers.Replace(Regex(" {2,}"), "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(
        ["<pad>", "</s>", "<s>", "<unk>"] + [f"<extra_id_{i}>" for i in range(EXTRA_IDS)])
    return tokenizer


def write_tokenizer(texts):
    FOLDER.mkdir(parents=True, exist_ok=True)
    data = train(texts)
    (FOLDER / "spiece.model").write_bytes(data)
    tokenizer = convert(sentencepiece_proto.ModelProto.FromString(data))
    dense = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (FOLDER / "tokenizer.json").write_text(dense)
    names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
             "additional_special_tokens": [f"<extra_id_{i}>" for i in range(EXTRA_IDS)]}
    decoder = {str(token["id"]): {key: value for key, value in token.items() if key != "id"}
               for token in json.loads(dense)["added_tokens"]}
    config = names | {"added_tokens_decoder": decoder, "tokenizer_class": "T5Tokenizer", "extra_ids": EXTRA_IDS, "model_max_length": MAX_LENGTH}
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    (FOLDER / "special_tokens_map.json").write_text(json.dumps(names) + "\n")
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def transformers_tokenizers():
    """What transformers makes of the folder with either of its vocabularies."""
    for left_out in ("tokenizer.json", "spiece.model"):
        with tempfile.TemporaryDirectory() as name:
            folder = shutil.copytree(FOLDER, pathlib.Path(name) / "tokenizer")
            (folder / left_out).unlink()
            yield transformers.T5TokenizerFast.from_pretrained(folder)


def references():
    """FNV-1a of what html.unescape makes of a text of lines "&name;" and "&name", name after name."""
    names = sorted(name for name in html.entities.html5 if name.endswith(";"))
    value = 0xCBF29CE484222325
    for byte in html.unescape("".join(f"&{name}\n&{name[:-1]}\n" for name in names)).encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return {"names": len(names), "fnv1a": f"{value:016x}"}


def known(ids):
    """Ids without the difference between both unknown tokens."""
    return [2 if i == 3 else i for i in ids]


def main():
    pipeline_wan.is_ftfy_available = lambda: False
    texts = make_tokenizers.HAND + HTML + SPACES + LONG + list(make_tokenizers.random_strings(70, 1))
    clean = [pipeline_wan.prompt_clean(text) for text in texts]
    # Latin and a few Chinese characters are known, the rest is unknown.
    composed = [f"a {thing}{style}" for thing in make_tokenizers.THINGS for style in make_tokenizers.STYLES]
    tokenizer = write_tokenizer(composed + [text for text in clean if 0 < len(text) < 200 and text.isprintable()
                                            and all(ord(c) < 0x100 or c in "一只红色的苹果白猫" for c in text)])
    ids = None
    for other in transformers_tokenizers():
        data = json.loads(other.backend_tokenizer.to_str())
        data["model"]["unk_id"] = 3
        fixed = Tokenizer.from_str(json.dumps(data))
        found = [fixed.encode(text).ids for text in clean]
        assert ids is None or ids == found
        ids = found
        for text, expected in zip(clean, ids):
            assert known(other(text).input_ids) == known(expected), text
            padded = other(text, padding="max_length", max_length=MAX_LENGTH, truncation=True)
            cut = expected if len(expected) <= MAX_LENGTH else expected[:MAX_LENGTH - 1] + [1]
            assert known(padded.input_ids) == known(cut) + [0] * (MAX_LENGTH - len(cut)), text
            assert sum(padded.attention_mask) == len(cut), text
    for text, expected in zip(clean, ids):
        spaced = any(c in text for c in "▁\u200b")
        assert spaced or tokenizer.encode(text).ids == expected, (text, tokenizer.encode(text).ids, expected)
    cases = [{"text": text} | ({"clean": cleaned} if cleaned != text else {}) | {"ids": found}
             for text, cleaned, found in zip(texts, clean, ids)]
    golden = {"made_by": "tests/golden/make_wan_prompts.py", "versions": {
        name: importlib.metadata.version(name)
        for name in ("diffusers", "transformers", "tokenizers", "sentencepiece")}, "references": references(), "cases": cases}
    lines = json.dumps(golden, ensure_ascii=True, separators=(",", ":")).replace('},{"text"', '},\n{"text"')
    (HERE / "wan" / "prompts.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
