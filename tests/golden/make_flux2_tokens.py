#!/usr/bin/env python3
"""Ids of 200 multilingual prompts for the tokenizers of FLUX.2, as Hugging Face tokenizers has them.

Writes flux2/tokens.json beside this script: the prompts, the ids of the first 80 by the tiny
tokenizers of flux2/dev and flux2/klein, and the ids of all by Mistral's own vocabulary (tekken),
which the Python package mistral-common carries. With --tekken FOLDER that vocabulary is written there as the tokenizer.json
that $DITHER_TEKKEN_TOKENIZER wants to name; it is not ours to ship. Its ids are checked against
mistral-common's own tokenizer first.

    pip install tokenizers==0.23.3 mistral-common==1.13.1
    python make_flux2_tokens.py --tekken /tmp/tekken
"""
import argparse
import base64
import json
import pathlib
import random

import mistral_common
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

HERE = pathlib.Path(__file__).resolve().parent / "flux2"
TEKKEN = pathlib.Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
SEED = 20261126
COUNT = 200
TINY = 80  # of these by the tiny tokenizers, whose ids are many
# Sentences and odd pieces, joined at random.
PIECES = [
    "a photo of a red fox in the snow", "An OIL painting, 8k, f/1.8", "it's they'll WE'RE I'd",
    "ein rotes Haus am See, Gebäude im Morgennebel", "un café à Paris sous la pluie",
    "una montaña nevada al atardecer, ¿dónde?", "uma praça em Lisboa às 18h30",
    "красная лиса на снегу, зимний лес", "пейзаж с рекой и старой мельницей", "червона калина",
    "ένα κόκκινο σπίτι δίπλα στη θάλασσα", "雪の中の赤い狐、夕暮れ", "赤いリンゴが三つ", "カメラ",
    "雪地里的一只红狐狸，油画风格", "三個紅蘋果放在木桌上", "눈 속의 붉은 여우", "서울의 야경, 비 오는 날",
    "ثعلب أحمر في الثلج", "بيت صغير قرب البحر", "שועל אדום בשלג", "बर्फ में एक लाल लोमड़ी",
    "สุนัขจิ้งจอกสีแดงในหิมะ", "con cáo đỏ trong tuyết", "kar içinde kırmızı bir tilki", "rudá liška ve sněhu",
    "czerwony lis w śniegu, żółte liście", "piros róka a hóban", "punainen kettu lumessa", "ærø ørsted åben",
    "e\u0301te\u0301", "ﬁne ½ ² Ⅷ", "🦊🍎🏔️", "👩‍👩‍👧‍👦 family", "🇫🇷🇯🇵", "\U0001d4d0\U0001d4d1",
    "1234567890", "3.14159 and 2,718", "٣٤٥", "#FF8800", "{\"a\": [1, 2]}", "for (int i = 0; i < n; ++i)",
    "https://example.com/a?b=c&d=%20", "snake_case camelCase", "...!!!???", "—–-", "«guillemets»", "\t\ttabs",
    "two  spaces   three", "\n\nlines\r\nmore\n", "   ", "\u3000全角　空白", "\u200bzero\u200dwidth", "\u00a0nbsp",
    "a/b\\c|d", "$5 €6 ¥7 £8", "x" * 40, "WHITE cat UPPER lower Title", "ǅ ŉ ß İ ı",
]


def prompts():
    rng = random.Random(SEED)
    made = ["", " ", *PIECES]
    while len(made) < COUNT:
        parts = rng.sample(PIECES, rng.randint(2, 4))
        made.append(rng.choice([" ", ", ", "\n", ""]).join(parts))
    return made[:COUNT]


def byte_alphabet():
    """GPT-2's printable stand-ins for bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in kept]
    return {b: chr(b) for b in kept} | {b: chr(256 + i) for i, b in enumerate(others)}


def tekken_tokenizer():
    """Mistral's vocabulary as a byte-level BPE: 1000 special ids come first, a merge for every way
    to make a token of two others, in the order of the tokens' ranks."""
    content = json.loads(TEKKEN.read_text())
    config = content["config"]
    special = config["default_num_special_tokens"]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"]
             for entry in content["vocab"][:config["default_vocab_size"] - special]}
    letters = byte_alphabet()
    spell = lambda token: "".join(letters[b] for b in token)
    merges = []
    for token, rank in ranks.items():
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
        pairs = [(a, b) for a, b in pairs if a in ranks and b in ranks]
        pairs.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges += [(spell(a), spell(b)) for a, b in pairs]
    vocab = {spell(token): rank + special for token, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(config["pattern"]), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tekken", help="folder for Mistral's vocabulary as a tokenizer.json")
    args = parser.parse_args()
    texts = prompts()
    tekken = tekken_tokenizer()
    own = Tekkenizer.from_file(TEKKEN)
    ids = [tekken.encode(text, add_special_tokens=False).ids for text in texts]
    assert ids == [own.encode(text, bos=False, eos=False) for text in texts]
    if args.tekken:
        folder = pathlib.Path(args.tekken)
        folder.mkdir(parents=True, exist_ok=True)
        tekken.save(str(folder / "tokenizer.json"))
    out = {"prompts": texts, "tekken": ids}
    for name in ("dev", "klein"):
        tokenizer = Tokenizer.from_file(str(HERE / name / "tokenizer" / "tokenizer.json"))
        tokenizer.no_padding()  # the file keeps those of its last use
        tokenizer.no_truncation()
        out[name] = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts[:TINY]]
    (HERE / "tokens.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
