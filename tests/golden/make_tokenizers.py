"""Makes tokenizers.json and tokenizers/*/tokenizer.json: token ids of Hugging Face's tokenizers.

    python tests/golden/make_tokenizers.py

Runs transformers' CLIPTokenizer and T5TokenizerFast, as FluxPipeline does, on the demo model's
tokenizer folders in each of the four ways to load them (and insists that both ways of a family
agree), and trains three small tokenizer.json files that exercise the generic engine: "qwen",
"mistral" (byte-level BPE with those models' regular expressions) and "llama" (unigram with byte
fallback, Metaspace first). Strings are multilingual prompts and, seed 0, random Unicode.
"""

import json
import pathlib
import random
import shutil
import tempfile
import unicodedata

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

HERE = pathlib.Path(__file__).parent
MODEL = HERE.parent.parent / "models" / "emoji-flux"
PADDED_LENGTHS = {"clip": 77, "t5": 64}

THINGS = ["red apple", "sleeping cat", "smiling sun", "rocket", "blue whale", "slice of pizza",
          "robot face", "old castle", "snowman", "heart", "birthday cake", "dragon"]
STYLES = ["", ", flat design", " on a white background", " in the style of Van Gogh", ", 8k, HDR!!",
          " (masterpiece:1.2)"]
HAND = [
    "", " ", "   ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028", "\u180e", "\u200b", "\ufeff",
    "a", "A", "!", "1", "1234567890", "3.14159", "1,000,000", "x²+y²", "½ ⅓ Ⅷ ①②③", "٣٤٥", "१२३",
    "A RED APPLE", "don't can't we're I've I'm they'll he'd it's", "DON'T CAN'T", "'s't're've'm'll'd",
    "rock'n'roll 'tis", "'", "''''", "\"quoted\"", "“curly” ‘quotes’", "it’s", "hello,world", "a.b.c",
    "foo_bar-baz", "snake_case CamelCase kebab-case", "C++ & C#", "https://example.com/?q=1&r=%20",
    "me@example.org", "<|startoftext|>", "<|endoftext|>", "<|endoftext|>a cat<|endoftext|>",
    "a <|STARTOFTEXT|> b", "a<|EndOfText|>b", "<|startoftext|", "</s>", "<pad>", "<unk>", "a</s>b",
    "  <pad>  x  </s>  ", "<extra_id_0> and <extra_id_99>", "<extra_id_100>", "<extra_id_5>x<EXTRA_ID_6>",
    "＜ｐａｄ＞", "＜／ｓ＞", "▁", "▁▁", "▁a ▁b", "a▁b", " ▁ x", "a  b   c    d", "  lead", "trail  ",
    "tab\tbed", "new\nline", "win\r\nline", "mixed \t\r\n white  \u2003 space", "nul\x00byte",
    "\x01\x02\x03", "bell\x07 esc\x1b[31m", "del\x7f c1\x80\x85\x9f", "soft\u00adhyphen", "zero\u200bwidth",
    "zwj\u200djoin", "zwnj\u200cjoin", "bom\ufeffinside", "\u202eRTL override\u202c", "obj\ufffc repl\ufffd",
    "\ue000 private \U000f0000", "noncharacter \uffff \U0010ffff", "\u0301", "e\u0301", "é", "E\u0301\u0323", "E\u0323\u0301",
    "ÅÅÅ", "Åström Ångström", "a\u0300\u0301\u0302\u0303\u0304", "\u0958 \u0915\u093c", "각 \u1100\u1161\u11a8 한글",
    "ﬁ ﬂ ﬃ ﬀ", "ǅ ǆ Ǆ", "ß ẞ SS", "İstanbul I ı i", "IİIİ", "ΣΊΣΥΦΟΣ σς", "ÀÉÎÕÜ", "Ÿ Ž Š", "ŉ ſ K Å Ω",
    "Ａ\u0301ＢＣ", "ＦＵＬＬ　ＷＩＤＴＨ １２３", "ｱｲｳ ｶﾞ", "㈱ ㍿ ㎏ ℃ ™ ℡", "…‥—–‐", "٪ ؟ ،", "¿Qué? ¡Sí!",
    "🍎", "🍎🍏🍐", "a🍎b", "👩‍🚀", "👨‍👩‍👧‍👦 family", "👍🏽 👍🏿", "🏳️‍🌈 🏴‍☠️", "🇩🇪🇫🇷🇯🇵", "1️⃣ #️⃣ *️⃣", "❤️ ❤ ♥︎", "☀️🌧️⛈",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "😀😃😄😁😆", "ฅ^•ﻌ•^ฅ", "¯\\_(ツ)_/¯", "ಠ_ಠ", "（╯°□°）╯︵ ┻━┻", "★☆♪♫", "→←↑↓", "∀x∈ℝ: x²≥0", "𝕳𝖊𝖑𝖑𝖔 𝒲𝑜𝓇𝓁𝒹",
    "一只红色的苹果", "紅いリンゴ、白い背景", "カタカナ ひらがな 漢字", "빨간 사과", "красное яблоко на белом фоне",
    "تفاحة حمراء على خلفية بيضاء", "תפוח אדום", "ที่มีแอปเปิ้ลสีแดง", "लाल सेब", "লাল আপেল", "சிவப்பு ஆப்பிள்", "κόκκινο μήλο",
    "კიდევ წითელი ვაშლი", "կարմիր խնձոր", "ቀይ ፖም", "လပန်းသီး", "ផ្លែប៉ោម", "ཀུ་ཤུ་དམར་པོ", "quả táo đỏ", "červené jablko",
    "piros alma, kék háttér", "rødt æble på hvid baggrund", "une pomme rouge à l'arrière-plan", "ein roter Apfel (süß)",
    "una manzana roja, fondo año", "uma maçã vermelha", "kırmızı elma İÇİN", "czerwone jabłko żółć", "punainen omena öljy",
    "mixed 漢字 and emoji 🍎 و عربي with ไทย", "𐍈𐌰𐌽 𓀀 𝄞 🂡", "\U0002f804 \U00020000 \U0003134a", "\u1c89 \ua7cb \ua7dc \U00010d50 \U00016ea0",
    "supercalifragilisticexpialidocious antidisestablishmentarianism", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a" * 300, "🍎" * 60, "a red apple " * 40, "!" * 100, "word, " * 90, "漢" * 120, "\u0301" * 50 + "\u0323" * 50, "1" * 90,
    "\n\n\n a \n b \r\r", "trailing newline\n", "x \n", "a\u0085b\u2029c", "a\u000bb\u000cc\u001cd",
    "photo of a cat --ar 16:9 --v 5", "((best quality)), [[worst]], {{detailed}}", "a, b; c: d. e? f! g/h\\i|j",
    "price: $9.99 €10 £5 ¥100 ₿1", "50% off", "#hashtag @mention", "1st 2nd 3rd 4th", "12:34:56 2024-01-31", "v1.2.3-rc4+5",
    "[INST] hi [/INST]", "<s>[INST]x", "<|im_start|>user\nhi<|im_end|>\n", "<|im_start|>  ", "a <mask> b", "a<mask>b", "mask <MASK> mask",
    "  [TOOL]  word[TOOL]word [TOOL]",
]
ALPHABETS = [
    [chr(c) for c in range(0x20, 0x7F)],
    [chr(c) for c in range(0x00, 0x250)],
    list("aA'sStTé\u0301\u0323\u200d ▁<|>/s1٣\u1100\u1161\u11a8ｶﾞ\u3099İ\u0345🍎\ufe0f\u093c\u0915\r\n\t"),
    [chr(c) for c in list(range(0x300, 0x370)) + list(range(0x41, 0x5B)) + list(range(0x591, 0x5C8)) + list(range(0x64B, 0x660))],
    [chr(c) for c in list(range(0x2000, 0x2070)) + list(range(0xFF00, 0xFFF0)) + list(range(0x3040, 0x3130)) + list(range(0xAC00, 0xAC40))],
    [chr(c) for c in range(0x1F300, 0x1F700)] + list("\u200d\ufe0f\U0001f3fb\U0001f3ff"),
]


def random_character(rng):
    while True:
        c = chr(rng.randrange(0x110000))
        if unicodedata.category(c) not in ("Cs", "Cn"):
            return c


def random_strings(count, seed):
    rng = random.Random(seed)
    for i in range(count):
        kind = i % (len(ALPHABETS) + 1)
        length = rng.randrange(1, 24)
        if kind == len(ALPHABETS):
            yield "".join(random_character(rng) for _ in range(length))
        else:
            yield "".join(rng.choice(ALPHABETS[kind]) for _ in range(length))


def texts():
    composed = [f"a {thing}{style}" for thing in THINGS for style in STYLES]
    return HAND + composed + list(random_strings(140, 0))


def load(cls, source, names):
    """The tokenizer that transformers makes of a folder with only these files."""
    with tempfile.TemporaryDirectory() as folder:
        for name in [*names, "tokenizer_config.json", "special_tokens_map.json"]:
            shutil.copy(source / name, folder)
        return cls.from_pretrained(folder)


def train_small(corpus):
    qwen = Tokenizer(models.BPE())
    qwen.normalizer = normalizers.NFC()
    qwen.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
            "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    qwen.post_processor = processors.ByteLevel(trim_offsets=False)
    qwen.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    qwen.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False))
    qwen.add_special_tokens([AddedToken("<|im_start|>", rstrip=True), AddedToken("<|im_end|>", lstrip=True)])
    qwen.add_tokens([AddedToken("<mask>", single_word=True), AddedToken("mask")])

    mistral = Tokenizer(models.BPE(ignore_merges=True))
    mistral.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
            r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    mistral.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=alphabet, show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]))
    mistral.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])])

    llama = Tokenizer(models.Unigram())
    llama.normalizer = normalizers.Sequence([
        normalizers.Strip(left=False), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace("~", "--")])
    llama.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    llama.train_from_iterator([t for t in corpus if t.isascii()], trainers.UnigramTrainer(
        vocab_size=300, unk_token="<unk>", show_progress=False, special_tokens=["<pad>", "<unk>", "<s>", "</s>"]))
    data = json.loads(llama.to_str())
    data["model"]["byte_fallback"] = True
    data["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    data["normalizer"]["normalizers"].append({"type": "Prepend", "prepend": "_"})
    llama = Tokenizer.from_str(json.dumps(data))
    llama.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)])
    llama.add_tokens([AddedToken("[TOOL]", lstrip=True, rstrip=True, normalized=True)])
    return {"qwen": qwen, "mistral": mistral, "llama": llama}


def main():
    clip = [load(transformers.CLIPTokenizer, MODEL / "tokenizer", names)
            for names in (["vocab.json", "merges.txt"], ["tokenizer.json"])]
    t5 = [load(transformers.T5TokenizerFast, MODEL / "tokenizer_2", names)
          for names in (["spiece.model"], ["tokenizer.json"])]
    all_texts = texts()
    small = train_small([t for t in all_texts if len(t) < 100] + HAND * 2)
    for name, tokenizer in small.items():
        folder = HERE / "tokenizers" / name
        folder.mkdir(parents=True, exist_ok=True)
        data = json.loads(tokenizer.to_str())
        (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")))
        small[name] = Tokenizer.from_file(str(folder / "tokenizer.json"))

    cases = []
    for text in all_texts:
        case = {"text": text}
        for name, pair in (("clip", clip), ("t5", t5)):
            ids, same = [tokenizer(text).input_ids for tokenizer in pair]
            assert ids == same, (name, text)
            case[name] = ids
            padded = pair[0](text, padding="max_length", max_length=PADDED_LENGTHS[name], truncation=True).input_ids
            inner = ids if len(ids) <= PADDED_LENGTHS[name] else ids[:PADDED_LENGTHS[name] - 1] + ids[-1:]
            assert padded == inner + [pair[0].pad_token_id] * (PADDED_LENGTHS[name] - len(inner)), (name, text)
        for name, tokenizer in small.items():
            case[name] = tokenizer.encode(text).ids
        cases.append(case)
    golden = {
        "made_by": "tests/golden/make_tokenizers.py",
        "versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
        "padded_lengths": PADDED_LENGTHS,
        "cases": cases,
    }
    lines = json.dumps(golden, ensure_ascii=True, separators=(",", ":")).replace('},{"text"', '},\n{"text"')
    (HERE / "tokenizers.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
