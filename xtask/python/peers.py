"""The peers that tfm is measured beside, each as one whole process: load, tokenise, translate, detokenise, write.

    pip install -r xtask/python/requirements.txt
    python peers.py prepare --model DIR --out CT2DIR                convert a checkpoint for CTranslate2 (once)
    python peers.py torch --model DIR --input F --output F           PyTorch `transformers`
    python peers.py ct2 --model DIR --converted CT2DIR --input F --output F    CTranslate2

DIR is a Marian checkpoint in Hugging Face layout. Lines in, lines out, in order; an empty line gives an empty line. Each
translation prints one JSON object to stdout:

    peer, settings, sentences, process_seconds, load_seconds, translate_seconds, cpu_seconds, sentences_per_second,
    peak_rss_bytes

`cpu_seconds` sums all threads. `process_seconds` runs from the start of the process (imports included) to the written output, and
`sentences_per_second` is `sentences / process_seconds`. With `--reference F` the object also holds `bleu` and its
`signature`, computed after the clock stopped.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

MAX_NEW_TOKENS = 127


def process_seconds() -> float:
    """Seconds since this process was started, from the kernel (clock ticks of 10 ms)."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def peak_rss_bytes() -> int:
    """The most memory this process has held (not what it inherited from its parent, as getrusage would say)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def prepare(options: argparse.Namespace) -> None:
    """Convert a checkpoint to CTranslate2's format, in float32."""
    import ctranslate2
    import torch

    class Float32Converter(ctranslate2.converters.TransformersConverter):
        """Loads in f32 whatever type the checkpoint is stored in."""

        def load_model(self, model_class, path, **kwargs):
            kwargs.pop("torch_dtype", None)
            return super().load_model(model_class, path, **kwargs | {"dtype": torch.float32})

    Float32Converter(str(options.model)).convert(str(options.out), quantization="float32", force=True)


def translate_torch(options: argparse.Namespace, lines: list[str]) -> tuple[list[str], float]:
    """Batches of sentences of like length, longest first. Returns the translations and the moment the model stood."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    tokenizer = transformers.MarianTokenizer.from_pretrained(options.model)
    model = transformers.MarianMTModel.from_pretrained(options.model, dtype=torch.float32).eval()
    loaded = process_seconds()

    ids = tokenizer(lines)["input_ids"]
    order = sorted((i for i, line in enumerate(lines) if line.strip()), key=lambda i: -len(ids[i]))
    translations = [""] * len(lines)
    for first in range(0, len(order), options.batch):
        batch = order[first : first + options.batch]
        inputs = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt")
        with torch.inference_mode():
            outputs = model.generate(**inputs, num_beams=options.beam, max_new_tokens=MAX_NEW_TOKENS)
        for i, text in zip(batch, tokenizer.batch_decode(outputs, skip_special_tokens=True)):
            translations[i] = text
    return translations, loaded


def translate_ct2(options: argparse.Namespace, lines: list[str]) -> tuple[list[str], float]:
    """All lines in one call: CTranslate2 sorts, batches and spreads them over its threads."""
    if options.use_mkl:
        os.environ["CT2_USE_MKL"] = "1"
    # CTranslate2 imports these for its converters where they are installed; to translate it needs none of them, and is
    # not to pay for them.
    for unneeded in ("torch", "transformers", "huggingface_hub"):
        sys.modules[unneeded] = None
    import ctranslate2
    import sentencepiece

    source = sentencepiece.SentencePieceProcessor(model_file=str(options.model / "source.spm"))
    target = sentencepiece.SentencePieceProcessor(model_file=str(options.model / "target.spm"))
    translator = ctranslate2.Translator(
        str(options.converted),
        device="cpu",
        compute_type="float32",
        inter_threads=options.inter_threads,
        intra_threads=options.intra_threads,
    )
    loaded = process_seconds()

    filled = [i for i, line in enumerate(lines) if line.strip()]
    pieces = source.encode([lines[i] for i in filled], out_type=str)
    results = translator.translate_batch(
        [sentence + ["</s>"] for sentence in pieces],
        beam_size=options.beam,
        max_batch_size=options.batch_tokens or options.batch,
        batch_type="tokens" if options.batch_tokens else "examples",
        max_decoding_length=MAX_NEW_TOKENS,
    )
    translations = [""] * len(lines)
    for i, text in zip(filled, target.decode([result.hypotheses[0] for result in results])):
        translations[i] = text
    return translations, loaded


def translate(options: argparse.Namespace) -> None:
    """Run one peer over the input and report."""
    lines = options.input.read_text(encoding="utf-8").split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    translations, loaded = options.translate(options, lines)
    options.output.write_text("".join(text + "\n" for text in translations), encoding="utf-8")
    total = process_seconds()
    settings = {
        name: value
        for name, value in vars(options).items()
        if name not in ("command", "run", "translate", "model", "converted", "input", "output", "reference")
    }
    report = {
        "peer": options.command,
        "settings": settings,
        "sentences": len(lines),
        "process_seconds": round(total, 3),
        "load_seconds": round(loaded, 3),
        "translate_seconds": round(total - loaded, 3),
        "cpu_seconds": round(time.process_time(), 3),
        "sentences_per_second": round(len(lines) / total, 1),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    if options.reference:
        import sacrebleu

        bleu = sacrebleu.metrics.BLEU()
        references = options.reference.read_text(encoding="utf-8").splitlines()
        report["bleu"] = round(bleu.corpus_score(translations, [references]).score, 2)
        report["signature"] = str(bleu.get_signature())
    print(json.dumps(report))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("prepare", help="convert a checkpoint for CTranslate2")
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=prepare)

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--model", type=Path, required=True, help="the checkpoint, in Hugging Face layout")
    shared.add_argument("--input", type=Path, required=True, help="one sentence a line")
    shared.add_argument("--output", type=Path, required=True)
    shared.add_argument("--reference", type=Path, help="right translations, for BLEU")
    shared.add_argument("--beam", type=int, default=4)
    shared.add_argument("--batch", type=int, default=32, help="sentences in a batch")

    command = commands.add_parser("torch", parents=[shared], help="translate with PyTorch transformers")
    command.add_argument("--threads", type=int, default=2)
    command.set_defaults(run=translate, translate=translate_torch)

    command = commands.add_parser("ct2", parents=[shared], help="translate with CTranslate2, f32")
    command.add_argument("--converted", type=Path, required=True, help="what `prepare` wrote")
    command.add_argument("--inter-threads", type=int, default=2, help="batches translated at once")
    command.add_argument("--intra-threads", type=int, default=1, help="threads to a batch")
    command.add_argument("--batch-tokens", type=int, default=0, help="tokens in a batch, in place of --batch")
    command.add_argument("--use-mkl", action="store_true", help="set CT2_USE_MKL=1: CTranslate2 avoids MKL on AMD")
    command.set_defaults(run=translate, translate=translate_ct2)

    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
