#!/usr/bin/env python3
"""Fetches sentence pairs of Tatoeba, and splits them as configs/tatoeba-en-*.toml expect.

    python3 scripts/tatoeba.py fr

writes data/tatoeba/{train,dev,test}.en-fr.tsv.gz. The columns are the English sentence, its
translation, and whom to attribute them to. The sentences are by the contributors of
https://tatoeba.org, as collected by https://www.manythings.org/anki/, under CC BY 2.0 FR.

Where the page cannot be reached from here, download its archive by other means and name it:

    python3 scripts/tatoeba.py fr --archive fra-eng.zip
"""

import argparse
import gzip
import hashlib
import io
import pathlib
import unicodedata
import urllib.request
import zipfile

# The archives have the languages' codes of three letters.
CODES = {"de": "deu", "fr": "fra"}
# Of 1,000 English sentences, how many go to the development split and how many to the test split.
HELD_OUT = {"dev": 6, "test": 6}


def read_archive(path, code):
    """The archive's bytes: those of a file, or of the page."""
    if path is not None:
        return path.read_bytes()
    address = f"https://www.manythings.org/anki/{code}-eng.zip"
    print(f"downloading {address}")
    # Many servers refuse the name that Python gives itself.
    request = urllib.request.Request(address, headers={"User-Agent": "tfm"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def read_pairs(archive, code):
    """The pairs of the archive without repetitions, in NFC and in its order."""
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        lines = files.read(f"{code}.txt").decode("utf-8").split("\n")
    pairs = {}
    for line in lines:
        columns = [unicodedata.normalize("NFC", column).strip() for column in line.split("\t")]
        if len(columns) >= 2 and columns[0] and columns[1]:
            pairs.setdefault((columns[0], columns[1]), columns[2] if len(columns) > 2 else "")
    return pairs


def split_of(english):
    """The split of an English sentence. It follows from the sentence alone, so that no sentence is
    in two splits, and that a newer archive changes no sentence's split."""
    bucket = int.from_bytes(hashlib.sha256(english.encode()).digest()[:8], "big") % 1000
    for name, share in HELD_OUT.items():
        if bucket < share:
            return name
        bucket -= share
    return "train"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("language", choices=sorted(CODES), help="the language beside English")
    parser.add_argument("--archive", type=pathlib.Path, help="the archive, already downloaded")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("data/tatoeba"))
    arguments = parser.parse_args()
    code = CODES[arguments.language]
    try:
        pairs = read_pairs(read_archive(arguments.archive, code), code)
    except (OSError, zipfile.BadZipFile, KeyError, UnicodeDecodeError) as problem:
        parser.exit(1, f"error: no archive with {code}.txt: {problem}; download {code}-eng.zip from "
                       "https://www.manythings.org/anki/ and name it by --archive\n")

    splits = {"train": [], "dev": [], "test": []}
    answered = set()
    for (english, other), attribution in pairs.items():
        name = split_of(english)
        # A sentence to evaluate on has one reference.
        if name == "train" or english not in answered:
            splits[name].append(f"{english}\t{other}\t{attribution}\n")
        answered.add(english)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, lines in splits.items():
        path = arguments.output / f"{name}.en-{arguments.language}.tsv.gz"
        # Without a date and a name in its header the file is the same at every run.
        with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
            packed.write("".join(lines).encode())
        print(f"{path}: {len(lines)} pairs")


if __name__ == "__main__":
    main()
