"""PyTorch training that tfm's is measured beside: `transformers`' Marian on ready-made batches of ids.

    pip install -r xtask/python/requirements.txt
    python peers_training.py --config config.json --batches F.jsonl [--threads 2] [--device cpu] [--warmup 3] [--steps 10]

config.json is a Marian one; the weights are drawn from --seed. Each line of F is a batch, ids with eos, no padding and no
start token:

    {"sources": [[ids], …], "targets": [[ids], …]}

Here they are padded to the longest of the batch, masked, and the targets shifted right. The first --warmup steps take the lines in
order; then --steps steps are timed, from the first line on, and after the last line the first comes again. A step is the
whole of it: padding, forward, loss (label smoothing 0.1), backward, clipping of gradients to norm 1, Adam. Dropout is as
config.json says, f32. One JSON object is printed to stdout:

    program, threads, steps, sentences, source_tokens, target_tokens, seconds, cpu_seconds, tokens_per_second,
    seconds_per_step, first_loss, last_loss, peak_rss_bytes, settings, versions

Tokens are the real ones of the timed steps, eos included; `tokens_per_second` is of source and target together. `seconds` sums the timed
steps and `cpu_seconds` what all threads spent in them; `seconds_per_step` is their median. Losses are of the first and last step, warm-up included, by target token.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from peers import peak_bytes

LABEL_SMOOTHING = 0.1
CLIP_NORM = 1.0
# The rate only has to be one at which the numbers stay ordinary: it does not change how long a step takes.
LEARNING_RATE = 1e-4


def optimiser(name: str, parameters: list):
    """Adam as the paper has it, in the form that is asked for."""
    import torch

    options = {"lr": LEARNING_RATE, "betas": (0.9, 0.98), "eps": 1e-9}
    forms = {"adam": {}, "adam-foreach": {"foreach": True}, "adam-fused": {"fused": True}}
    return torch.optim.Adam(parameters, **options, **forms[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="Marian's config.json")
    parser.add_argument("--batches", type=Path, required=True, help="a batch a line")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--warmup", type=int, default=3, help="steps before the clock starts (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of weights and dropout")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    parser.add_argument("--optimizer", choices=["adam", "adam-foreach", "adam-fused"], default="adam-fused")
    options = parser.parse_args()

    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    config = transformers.MarianConfig.from_pretrained(options.config, attn_implementation=options.attention)
    model = transformers.MarianMTModel(config).float().to(options.device).train()
    for side in (model.model.encoder, model.model.decoder):
        side.embed_positions.requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adam = optimiser(options.optimizer, parameters)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING, ignore_index=-100)
    batches = [json.loads(line) for line in options.batches.read_text().splitlines()]

    def padded(rows: list[list[int]], filler: int) -> torch.Tensor:
        width = max(map(len, rows))
        return torch.tensor([row + [filler] * (width - len(row)) for row in rows], device=options.device)

    def step(batch: dict) -> float:
        sources = padded(batch["sources"], config.pad_token_id)
        lengths = torch.tensor([len(row) for row in batch["sources"]], device=options.device)
        mask = (torch.arange(sources.shape[1], device=options.device)[None, :] < lengths[:, None]).long()
        start = config.decoder_start_token_id
        decoder = padded([[start] + row[:-1] for row in batch["targets"]], config.pad_token_id)
        labels = padded(batch["targets"], -100)
        # `transformers` would compute a loss without smoothing if it were given the labels.
        logits = model(input_ids=sources, attention_mask=mask, decoder_input_ids=decoder, use_cache=False).logits
        loss = criterion(logits.flatten(0, 1), labels.flatten())
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        adam.step()
        return loss.item()

    losses, seconds = [], []
    for number in range(options.warmup):
        losses.append(step(batches[number % len(batches)]))
    timed = [batches[number % len(batches)] for number in range(options.steps)]
    cpu_start = time.process_time()
    for batch in timed:
        start = time.perf_counter()
        losses.append(step(batch))
        seconds.append(time.perf_counter() - start)
    cpu_seconds = time.process_time() - cpu_start
    counts = [sum(len(row) for batch in timed for row in batch[side]) for side in ("sources", "targets")]
    report = {
        "program": "transformers on PyTorch",
        "threads": options.threads,
        "steps": options.steps,
        "sentences": sum(len(batch["sources"]) for batch in timed),
        "source_tokens": counts[0],
        "target_tokens": counts[1],
        "seconds": round(sum(seconds), 4),
        "cpu_seconds": round(cpu_seconds, 4),
        "tokens_per_second": round(sum(counts) / sum(seconds), 1),
        "seconds_per_step": round(statistics.median(seconds), 4),
        "first_loss": round(losses[0], 4),
        "last_loss": round(losses[-1], 4),
        "peak_rss_bytes": peak_bytes(),
        "settings": {
            "attention": options.attention,
            "optimizer": options.optimizer,
            "parameters": sum(p.numel() for p in parameters),
        },
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
