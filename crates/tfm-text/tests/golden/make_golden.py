"""Makes the fixtures of this folder again, from the Python packages that tfm-text must equal.

    pip install sentencepiece==0.2.3 tokenizers==0.23.3 transformers==5.23.0 sacrebleu==2.6.0
    python make_golden.py SHARED [metrics]

With `metrics` only metrics.json is made. SHARED is the folder of large reference data (see CONTRIBUTING). Sentences come from Tatoeba (CC BY 2.0, tatoeba.org
by way of manythings.org/anki). Of texts that may not be copied only a hash of their token ids is kept.
"""

import gzip
import importlib.metadata
import io
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")

import sentencepiece
import tokenizers
from transformers import MarianTokenizer, PreTrainedTokenizerFast

import metric_goldens as metrics

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[3]
BUNDLED = ROOT / "crates/tfm/models/marian-tatoeba-en-fr"
VERSIONS = {p: importlib.metadata.version(p) for p in ("sentencepiece", "tokenizers", "transformers", "sacrebleu")}

SNIPPETS = [
    "▁", "</s>", "<unk>", "<s>", "<pad>", ">>fr<<", ">>fra<< ", ">>", "<<", " ", "  ", "\t", "\n", "\r", "\u00a0",
    "\u3000", "\u200b", "\u200c", "\u200d", "\u200e", "\ufeff", "\ufffd", "\u00ad", "e\u0301", "A\u030a", "ﬁ", "①",
    "½", "Ⅳ", "カ\u3099", "ｶﾞ", "한", "ᄒ", "ᅡ", "ᆫ", "👨‍👩‍👧‍👦", "🇫🇷", "👍🏽", "\x00", "\x01", "\x1b", "\x7f",
    "\x85", "\u2028", "\u2029", "\ufdfa", "𝔘", "𝟘", "ß", "İ", "ı", "Σ", "ς", "مرحبا", "שלום", "日本語", "中文",
    "ไทย", "हिन्दी", "<0x41>", "<0xE2>", "’", "“", "…", "—", "ª", "º", "ĳ", "ŉ", "ǆ", "\U0010ffff", "\ue000",
    "\u0300", "\u0338", "=\u0338", "\x1c", "\x1f", "<sep>", "foo", "a b",
]


def tatoeba(shared, split, language, limit=None):
    pairs = []
    with gzip.open(shared / f"data/tatoeba/{split}.en-{language}.tsv.gz", "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            pairs.append(tuple(line.rstrip("\n").split("\t")[:2]))
            if len(pairs) == limit:
                break
    return pairs


def multi30k(shared, language):
    with gzip.open(shared / f"data/multi30k/test_2016_flickr.{language}.gz", "rt", encoding="utf-8", newline="\n") as f:
        return f.read().rstrip("\n").split("\n")


def hostile_texts(seed=1):
    generator = random.Random(seed)

    def character():
        code = generator.choice([
            generator.randrange(32, 127), generator.randrange(0x80, 0x250), generator.randrange(0x300, 0x370),
            generator.randrange(0x10000), generator.randrange(0x110000),
        ])
        return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)

    texts = ["", " ", "   ", "\t\n\r", "\u3000 \u00a0"]
    texts += SNIPPETS
    texts += [f"Hello {snippet} world{snippet}." for snippet in SNIPPETS]
    texts += ["a" * 600, "é" * 300, "日" * 200, " a" * 300, "▁" * 100, "internationalization" * 30, "0" * 257]
    texts += [
        ">>fra<< I am sick.", ">>fra<<I am sick.", ">>xx<< I am sick.", ">> quoted << text", "a >>fra<< b",
        "</s>>>fra<< x", "a</s>b", " </s> ", "<unk><pad></s>", "don't  stop . now ,  ' ok ' n't", "<s>a</s><s>",
    ]
    for _ in range(120):
        parts = generator.randrange(1, 14)
        texts.append("".join(
            generator.choice([lambda: generator.choice(SNIPPETS), character,
                              lambda: generator.choice("abc  ▁.e\u0301")])() for _ in range(parts)))
    return texts


def train_tiny_models(shared):
    """Four small models; the last has the charsmap of most published models, the others have none."""
    sentences = [side for pair in tatoeba(shared, "train", "fr", 3000) for side in pair]
    common = dict(hard_vocab_limit=False, minloglevel=2, num_threads=1)
    recipes = {
        "tiny-bpe-bytes": dict(model_type="bpe", vocab_size=520, byte_fallback=True),
        "tiny-unigram-symbols": dict(
            model_type="unigram", vocab_size=300, user_defined_symbols=["<sep>", "foo", "é", "a b"],
            control_symbols=["<2fr>"], remove_extra_whitespaces=False, unk_surface="¿", pad_id=3),
        "tiny-unigram-suffix": dict(model_type="unigram", vocab_size=300, treat_whitespace_as_suffix=True),
        "tiny-unigram-nfkc": dict(model_type="unigram", vocab_size=300, normalization_rule_name="nmt_nfkc"),
    }
    for name, recipe in recipes.items():
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_writer=model, **common,
            **{"normalization_rule_name": "identity", **recipe})
        (HERE / f"{name}.spm").write_bytes(model.getvalue())
    return list(recipes)


def craft_models():
    """Models that no training makes, written field by field: a tiny alphabet, many pieces over it of all kinds, and
    few different scores, so that ties, unused pieces and symbols beside merges come up in every text."""
    normal, unknown, control, user_defined, unused = 1, 2, 3, 4, 5

    def field(number, wire_type, payload):
        return bytes([number << 3 | wire_type]) + payload

    def message(number, content):
        assert len(content) < 128
        return field(number, 2, bytes([len(content)]) + content)

    def piece(text, score, kind):
        return message(1, message(1, text.encode()) + field(2, 5, struct.pack("<f", score)) + field(3, 0, bytes([kind])))

    names = []
    for model_type, name in ((1, "crafted-unigram"), (2, "crafted-bpe")):
        for seed in (1, 2):
            generator = random.Random(seed)
            texts = {"".join(generator.choice("abcé▁") for _ in range(generator.randrange(1, 6))) for _ in range(70)}
            texts |= {"a", "b", "▁"} | ({"c"} if seed == 1 else set())
            content = piece("<unk>", 0, unknown) + piece("<s>", 0, control) + piece("</s>", 0, control)
            for text in sorted(texts):
                long = len(text) > 1
                kind = generator.choices([normal, unused, user_defined], [12, 3 if long else 0, 1 if seed == 2 else 0])[0]
                content += piece(text, generator.choice([0.0, -0.0, -1.0, -1.5, -3.0, -7.25, -9.0]), kind)
            content += message(2, field(3, 0, bytes([model_type])))
            names.append(f"{name}-{seed}")
            (HERE / f"{names[-1]}.spm").write_bytes(content)
    # Cuts that are a point apart: an unknown z costs 10 more than the worst piece; e and the symbol fg beat efg.
    scores = {"▁": -1.0, "x": -10.0, "yz": -15.0, "xy": -1.0, "e": 0.0, "efg": 0.0}
    content = piece("<unk>", 0, unknown) + piece("fg", 0, user_defined)
    content += b"".join(piece(text, score, normal) for text, score in scores.items())
    names.append("crafted-unigram-close")
    (HERE / f"{names[-1]}.spm").write_bytes(content)
    return names


def crafted_texts(seed=5):
    generator = random.Random(seed)
    return ["".join(generator.choice("aabcdé ▁") for _ in range(generator.randrange(1, 24))) for _ in range(150)] + [
        "a" * n for n in range(2, 12)] + ["ab" * n for n in range(2, 8)] + [
        "xyz", "efg", "xyzefg", "xefgyz"]


def sentencepiece_goldens(models, texts):
    generator = random.Random(2)
    goldens = {}
    for name, path in models.items():
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        size = model.get_piece_size()
        random_ids = [[generator.randrange(min(size, 400)) for _ in range(generator.randrange(12))] for _ in range(60)]
        goldens[name] = {
            "size": size,
            "special": [model.unk_id(), model.bos_id(), model.eos_id(), model.pad_id()],
            "encode": [[model.encode(text), " ".join(model.encode(text, out_type=str)), model.decode(model.encode(text))]
                       for text in texts],
            "decode": [[ids, model.decode(ids)] for ids in random_ids],
        }
    return goldens


def tiny_marian(folder, separate):
    """A Marian directory around a tiny model: vocabulary in another order, languages, a few pieces missing, and a few
    tokens that the model does not know."""
    spm = HERE / ("tiny-bpe-bytes.spm" if separate else "tiny-unigram-symbols.spm")
    model = sentencepiece.SentencePieceProcessor(model_file=str(spm))
    pieces = [model.id_to_piece(id) for id in range(3, model.get_piece_size())]
    random.Random(3).shuffle(pieces)
    source = ["</s>", "<unk>", ">>fra<<", ">>deu<<", *pieces[:-7], "日本語", "▁日本", "中▁文", "<pad>"]
    files = {"vocab.json": {token: id for id, token in enumerate(source)}}
    config = {"source_lang": "eng", "target_lang": "mul", "unk_token": "<unk>", "eos_token": "</s>",
              "pad_token": "<pad>", "tokenizer_class": "MarianTokenizer"}
    if separate:
        target = ["</s>", "<unk>", *reversed(pieces), "日本語", "▁日本"]
        target.insert(files["vocab.json"]["<pad>"], "<pad>")
        files["target_vocab.json"] = {token: id for id, token in enumerate(target)}
        config["separate_vocabs"] = True
        config["clean_up_tokenization_spaces"] = True
    files["tokenizer_config.json"] = config
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False))
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(spm.read_bytes())
    return {"model": spm.name, **files}


def marian_goldens(texts):
    def answers(folder):
        tokenizer = MarianTokenizer.from_pretrained(str(folder))
        rows = []
        for text in texts:
            target = tokenizer(text_target=text)["input_ids"]
            rows.append([tokenizer(text)["input_ids"], target, tokenizer.decode(target, skip_special_tokens=True)])
        size = len(tokenizer.decoder)
        generator = random.Random(6)
        # The last ids are those of odd tokens.
        random_ids = [[generator.randrange(size) if generator.random() < 0.6 else size - 1 - generator.randrange(5)
                       for _ in range(generator.randrange(9))] for _ in range(80)]
        decoded = [[ids, tokenizer.decode(ids, skip_special_tokens=True)] for ids in random_ids]
        return {"rows": rows, "decode": decoded}

    goldens = {"bundled": {"files": {}, **answers(BUNDLED)}}
    for name, separate in (("joint", False), ("separate", True)):
        with tempfile.TemporaryDirectory() as folder:
            files = tiny_marian(pathlib.Path(folder), separate)
            goldens[name] = {"files": files, **answers(folder)}
    return goldens


def learn_models(shared):
    """Two small models that `tfm tokenizer train` makes, with all the files it writes."""
    text = HERE / "learnt.txt"
    text.write_text("".join(f"{side}\n" for pair in tatoeba(shared, "train", "fr", 90000)[::300] for side in pair))
    recipes = {
        "learnt-unigram": ["--kind=unigram", "--vocabulary=400", "--symbol=<sep>", "--symbol=foo"],
        "learnt-bpe": ["--kind=bpe", "--vocabulary=400"],
    }
    for name, recipe in recipes.items():
        tfm = ["cargo", "run", "--release", "--quiet", "--package", "tfm-cli", "--", "tokenizer", "train", "--quiet"]
        subprocess.run([*tfm, f"--input={text}", f"--output={HERE / name}", "--character-coverage=0.999", *recipe],
                       cwd=ROOT, check=True)
    return list(recipes)


def learnt_goldens(names, texts):
    """What the packages make of those files: sentencepiece, transformers, tokenizers. The last has no `>>code<<`."""
    goldens = sentencepiece_goldens({name: HERE / name / "source.spm" for name in names}, texts)
    for name in names:
        marian = MarianTokenizer.from_pretrained(str(HERE / name))
        fast = tokenizers.Tokenizer.from_file(str(HERE / name / "tokenizer.json"))
        goldens[name]["marian"] = [marian(text)["input_ids"] for text in texts]
        goldens[name]["fast"] = [fast.encode(text).ids for text in texts]
    return goldens


def tokenizer_json_goldens(shared, texts):
    """A byte-level BPE with a template, the commonest make of tokenizer.json, trained small."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([side for pair in tatoeba(shared, "train", "fr", 1000) for side in pair], trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    # Stored limits must not take effect.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>", length=16)
    content = json.loads(tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = []
    for text in texts:
        plain, special = (tokenizer.encode(text, add_special_tokens=s).ids for s in (False, True))
        rows.append([plain, special, tokenizer.decode(special), tokenizer.decode(special, skip_special_tokens=False)])
    return {"file": content, "rows": rows}


def metric_goldens(shared):
    french = [fr for _, fr in tatoeba(shared, "test", "fr", 120)]
    return {"corpora": metrics.goldens(french, SNIPPETS), "significance": metrics.significance(french)}


def digest(rows):
    """FNV-1a, 64 bits, over all ids as little-endian u32, each row closed by u32::MAX."""
    value = 0xCBF29CE484222325
    for row in rows:
        for id in (*row, 0xFFFFFFFF):
            for byte in id.to_bytes(4, "little"):
                value = ((value ^ byte) * 0x100000001B3) % 2**64
    return f"{value:016x}"


def digests(shared):
    def test_texts(file):
        kind, language = file
        return multi30k(shared, language) if kind == "multi30k" else [s for p in tatoeba(shared, "test", language) for s in p]

    files = [("tatoeba", "fr"), ("tatoeba", "de"), ("multi30k", "en"), ("multi30k", "de"), ("multi30k", "fr")]
    goldens = []
    for folder in ("tokenizers/opus-mt-en-mg", "tokenizers/opus-mt-tc-big-fr-en", "tokenizers/pegasus-reuters",
                   "tokenizers/t5-envit5", "models/marian-tatoeba-en-fr"):
        path = shared / folder
        if (path / "source.spm").exists():
            marian = MarianTokenizer.from_pretrained(str(path))
            source = lambda text: marian(text)["input_ids"]
            target = lambda text: marian(text_target=text)["input_ids"]
            decode = lambda ids: marian.decode(ids, skip_special_tokens=True)
        else:
            fast = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
            fast.no_padding()
            fast.no_truncation()
            source = target = lambda text: fast.encode(text).ids
            # The file need not say that the tokens are special which tokenizer_config.json names: `transformers` does.
            config = json.loads((path / "tokenizer_config.json").read_text())
            named = {name: config[name] for name in ("eos_token", "pad_token", "unk_token") if isinstance(config.get(name), str)}
            whole = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"), **named)
            decode = lambda ids: whole.decode(ids, skip_special_tokens=True)
        for file in files:
            texts = test_texts(file)
            targets = [target(text) for text in texts]
            goldens.append({
                "tokenizer": folder, "texts": list(file), "lines": len(texts),
                "source": digest(source(text) for text in texts), "target": digest(targets),
                "decoded": digest(decode(ids).encode() for ids in targets),
            })
    return goldens


def write(name, content):
    text = json.dumps({"made with": VERSIONS, **content}, ensure_ascii=True, separators=(",", ":"))
    (HERE / name).write_text(text + "\n")
    print(f"{name}: {len(text)} bytes")


def main():
    shared = pathlib.Path(sys.argv[1])
    if sys.argv[2:] == ["metrics"]:
        write("metrics.json", metric_goldens(shared))
        return
    texts = hostile_texts() + [side for pair in tatoeba(shared, "test", "fr", 60) for side in pair]
    tiny = train_tiny_models(shared)
    models = {name: HERE / f"{name}.spm" for name in tiny}
    models |= {side: BUNDLED / f"{side}.spm" for side in ("source", "target")}
    write("sentencepiece.json", {"texts": texts, "models": sentencepiece_goldens(models, texts)})
    crafted = {name: HERE / f"{name}.spm" for name in craft_models()}
    texts_crafted = crafted_texts()
    write("crafted.json", {"texts": texts_crafted, "models": sentencepiece_goldens(crafted, texts_crafted)})
    write("marian.json", {"texts": texts, "tokenizers": marian_goldens(texts)})
    write("learnt.json", {"texts": texts, "models": learnt_goldens(learn_models(shared), texts)})
    write("tokenizer_json.json", {"texts": texts, **tokenizer_json_goldens(shared, texts)})
    write("metrics.json", metric_goldens(shared))
    write("digests.json", {"digests": digests(shared)})


main()
