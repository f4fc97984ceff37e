"""The peers that tfm is measured beside: CTranslate2, and `transformers` on PyTorch. Each run is a process of its own.

    pip install -r xtask/python/requirements.txt
    python peers.py convert --model DIR --dtype int8 --out CT2DIR           for CTranslate2, once
    python peers.py ct2 --converted CT2DIR --model DIR --dtype int8 --input F --output F ...
    python peers.py torch --model DIR --input F --output F ...

DIR is a Marian checkpoint in Hugging Face layout. Without `--text` a line of the input is a source's token ids, its end token the
last, and one of the output a target's; with it both are text, and the way to tokens and back is part of the work. `--length` gives
every target that many tokens, the end token being banned before. `--mode batch` takes the clock's time over all lines once the
model is loaded and the first lines were translated to warm up; `--mode latency` over each line alone. One JSON object is printed,
the same that our `peer_run` prints:

    seconds, processor_seconds, load_seconds, sentences, tokens, latencies_ms, peak_bytes, versions

`processor_seconds` sums all threads: much less than `seconds` times the threads says that other programs ran.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

MAX_NEW_TOKENS = 127
# Lines translated before the clock starts.
WARM_BATCH, WARM_SINGLE = 64, 5
DTYPES = {"f32": "float32", "f16": "float16", "int8": "int8", "bf16": "bfloat16"}


def process_seconds() -> float:
    """Seconds since this process was started, from the kernel (clock ticks of 10 ms)."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def peak_bytes() -> int:
    """The most memory this process has held (not what it inherited from its parent, as getrusage would say)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def convert(options: argparse.Namespace) -> None:
    """Convert a checkpoint to CTranslate2's format."""
    import ctranslate2
    import torch

    class Float32Converter(ctranslate2.converters.TransformersConverter):
        """Loads in f32 whatever type the checkpoint is stored in."""

        def load_model(self, model_class, path, **kwargs):
            kwargs.pop("torch_dtype", None)
            return super().load_model(model_class, path, **kwargs | {"dtype": torch.float32})

    Float32Converter(str(options.model)).convert(str(options.out), quantization=DTYPES[options.dtype], force=True)


class CTranslate2:
    """All lines in one call: CTranslate2 sorts, batches and spreads them over its threads."""

    def __init__(self, options: argparse.Namespace) -> None:
        if options.use_mkl:
            os.environ["CT2_USE_MKL"] = "1"
        # CTranslate2 imports these for its converters where they are installed; to translate it needs none of them, and
        # is not to pay for them.
        for unneeded in ("torch", "transformers", "huggingface_hub"):
            sys.modules[unneeded] = None
        import ctranslate2
        import sentencepiece

        self.versions = {"ctranslate2": ctranslate2.__version__}
        self.options = options
        self.translator = ctranslate2.Translator(
            str(options.converted),
            device="cpu",
            compute_type=DTYPES[options.dtype],
            inter_threads=options.workers,
            intra_threads=options.threads,
        )
        if options.text:
            model = [str(options.model / f"{side}.spm") for side in ("source", "target")]
            self.source, self.target = (sentencepiece.SentencePieceProcessor(model_file=file) for file in model)
        else:
            ids = json.loads((options.model / "vocab.json").read_text("utf-8"))
            self.pieces = [piece for piece, _ in sorted(ids.items(), key=lambda item: item[1])]
            self.ids = ids

    def read(self, lines: list[str]) -> list[list[str]]:
        if self.options.text:
            return [pieces + ["</s>"] for pieces in self.source.encode(lines, out_type=str)]
        return [[self.pieces[int(number)] for number in line.split()] for line in lines]

    def translate(self, lines: list[str]) -> tuple[list[str], int]:
        options = self.options
        results = self.translator.translate_batch(
            self.read(lines),
            beam_size=options.beam,
            max_batch_size=options.batch,
            batch_type=options.batch_type,
            max_decoding_length=options.length or MAX_NEW_TOKENS,
            min_decoding_length=options.length or 1,
        )
        outputs = [result.hypotheses[0] for result in results]
        tokens = sum(map(len, outputs))
        if options.text:
            return self.target.decode(outputs), tokens
        return [" ".join(str(self.ids[piece]) for piece in output) for output in outputs], tokens


class Torch:
    """Batches of sentences of like length, longest first."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.set_num_threads(options.workers * options.threads)
        self.versions = {"transformers": transformers.__version__, "torch": torch.__version__}
        self.torch, self.options = torch, options
        self.tokenizer = transformers.MarianTokenizer.from_pretrained(options.model)
        dtype = getattr(torch, DTYPES[options.dtype])
        model = transformers.MarianMTModel.from_pretrained(options.model, dtype=dtype).eval()
        self.model = model.to(options.device)

    def translate(self, lines: list[str]) -> tuple[list[str], int]:
        options = self.options
        ids = self.tokenizer(lines)["input_ids"] if options.text else [list(map(int, line.split())) for line in lines]
        order = sorted(range(len(lines)), key=lambda i: -len(ids[i]))
        outputs = [""] * len(lines)
        length = {"max_new_tokens": options.length or MAX_NEW_TOKENS, "min_new_tokens": options.length or None}
        tokens = 0
        for first in range(0, len(order), options.batch):
            batch = order[first : first + options.batch]
            inputs = self.tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt").to(options.device)
            with self.torch.inference_mode():
                found = self.model.generate(**inputs, num_beams=options.beam, **length, forced_eos_token_id=None)
            special = {self.model.config.pad_token_id, self.model.config.eos_token_id}
            kept = [[number for number in row if number not in special] for row in found.tolist()]
            tokens += sum(map(len, kept))
            texts = self.tokenizer.batch_decode(kept) if options.text else [" ".join(map(str, row)) for row in kept]
            for i, text in zip(batch, texts):
                outputs[i] = text
        return outputs, tokens


def run(options: argparse.Namespace) -> None:
    """Load, warm up, translate and report."""
    # Not `splitlines`, which takes more than line feeds for the end of a line.
    lines = options.input.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    lines = lines[: options.limit or len(lines)]
    peer = options.peer(options)
    load_seconds = process_seconds()
    latencies, outputs, tokens = [], [], 0
    if options.mode == "latency":
        for line in lines[:WARM_SINGLE]:
            peer.translate([line])
        processor = time.process_time()
        for line in lines:
            start = time.perf_counter()
            output, count = peer.translate([line])
            latencies.append(1e3 * (time.perf_counter() - start))
            outputs += output
            tokens += count
        seconds = sum(latencies) / 1e3
    else:
        peer.translate(lines[:WARM_BATCH])
        processor = time.process_time()
        start = time.perf_counter()
        outputs, tokens = peer.translate(lines)
        seconds = time.perf_counter() - start
    processor = time.process_time() - processor
    options.output.write_text("".join(text + "\n" for text in outputs), encoding="utf-8")
    report = {
        "seconds": seconds,
        "processor_seconds": processor,
        "load_seconds": load_seconds,
        "sentences": len(lines),
        "tokens": tokens,
        "latencies_ms": latencies,
        "peak_bytes": peak_bytes(),
        "versions": peer.versions | {"python": platform.python_version()},
    }
    print(json.dumps(report))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("convert", help="convert a checkpoint for CTranslate2")
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--dtype", choices=DTYPES, default="f32")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=convert)

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--model", type=Path, required=True, help="the checkpoint, in Hugging Face layout")
    shared.add_argument("--input", type=Path, required=True, help="one sentence a line")
    shared.add_argument("--output", type=Path, required=True)
    shared.add_argument("--text", action="store_true", help="lines are text, not token ids")
    shared.add_argument("--mode", choices=["batch", "latency"], default="batch")
    shared.add_argument("--beam", type=int, default=4)
    shared.add_argument("--length", type=int, help="tokens of every output")
    shared.add_argument("--limit", type=int, help="translate the first so many lines alone")
    shared.add_argument("--workers", type=int, default=2, help="batches translated at once")
    shared.add_argument("--threads", type=int, default=1, help="threads to a batch")
    shared.add_argument("--batch", type=int, default=32, help="size of a batch")
    shared.set_defaults(run=run)

    command = commands.add_parser("torch", parents=[shared], help="translate with PyTorch transformers")
    command.add_argument("--dtype", choices=["f32", "f16", "bf16"], default="f32")
    command.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    command.set_defaults(peer=Torch)

    command = commands.add_parser("ct2", parents=[shared], help="translate with CTranslate2")
    command.add_argument("--converted", type=Path, required=True, help="what `convert` wrote")
    command.add_argument("--dtype", choices=DTYPES, default="f32")
    command.add_argument("--batch-type", choices=["examples", "tokens"], default="examples", help="what --batch counts")
    command.add_argument("--use-mkl", action="store_true", help="set CT2_USE_MKL=1: CTranslate2 avoids MKL on AMD")
    command.set_defaults(peer=CTranslate2)

    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
