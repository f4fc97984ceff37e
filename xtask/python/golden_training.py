"""What PyTorch says of training the tiny checkpoints: the first loss with its gradients, and how the loss falls.

Dropout is off. A batch is computed pair by pair, without padding, in f64; the padded batch and an f32 run must say the
same. What the files hold is written in crates/tfm-train/tests/fixtures/README.md.
"""

import json
import math
import random
from pathlib import Path

import torch
from safetensors.torch import load_file

import golden_common as common
import golden_checkpoints
import golden_marian
import golden_paper

LABEL_SMOOTHING = 0.1
ADAM = {"beta1": 0.9, "beta2": 0.98, "epsilon": 1e-9, "weight_decay": 0.0}
STEPS = 200
# Lengths with the final eos, of source and target. No two pairs of a batch need have the same.
STEP_LENGTHS = [(5, 7), (1, 4), (9, 3), (6, 1), (3, 11), (13, 8)]
CURVE_LENGTHS = [(1, 7), (2, 3), (4, 4), (7, 1), (5, 9), (11, 6), (3, 5)]
CURVE_BATCHES = 5

# The gradients kept of each checkpoint: of all parameters, or of those outside the layers alone (and the norms of all).
GRADIENTS = {
    "marian_swish_tied": "all",
    "marian_relu_untied": "outside layers",
    "marian_relu_all_separate": "outside layers",
    "marian_gelu_separate_vocab": "outside layers",
    "nn_transformer_post": "all",
    "nn_transformer_pre": "all",
}
# How a checkpoint goes on learning: its schedule, and the gradient norm above which gradients are scaled down to it.
# The paper's schedule: lr = scale · d_model^-0.5 · min(step^-0.5, step · warmup^-1.5), steps counted from 1.
CURVES = {
    "marian_swish_tied": ({"kind": "constant", "learning_rate": 2e-3}, 1.0),
    "nn_transformer_post": ({"kind": "paper", "scale": 0.05, "warmup": 50}, 2.0),
}
# An f32 run of PyTorch strays by rounding: so much from the f64 gradients (relative to the largest number of the tensor,
# or to a hundredth of the largest of all: the biases of keys have gradients of zero), and so much from the f64 curve.
FLOAT32_GRADIENT_ERROR = 2e-5
FLOAT32_CURVE_ERROR = 5e-4


class Trained:
    """A checkpoint with what training needs: its parameters by their names in the file, and logits with padding or not."""

    def __init__(self, checkpoint: Path, dtype: torch.dtype):
        self.config = json.loads((checkpoint / "config.json").read_text())
        self.is_marian = self.config["model_type"] == "marian"
        if self.is_marian:
            self.module = golden_checkpoints.load(golden_marian.SPECS[checkpoint.name], checkpoint, dtype)
            self.share_input_embedding()
            for side in (self.module.model.encoder, self.module.model.decoder):
                # Fixed by the architecture, though `transformers` lets an optimiser have them.
                side.embed_positions.requires_grad_(False)
        else:
            weights = load_file(checkpoint / "model.safetensors")
            self.module = golden_paper.variant(self.config, {name: w.to(dtype) for name, w in weights.items()})
        self.parameters = {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def share_input_embedding(self) -> None:
        """Untied from the output, `transformers` stores a shared input embedding three times: here it is one again."""
        model = self.module.model
        if self.config["share_encoder_decoder_embeddings"] and not self.config["tie_word_embeddings"]:
            model.encoder.embed_tokens = model.decoder.embed_tokens = model.shared

    def logits(self, source: torch.Tensor, decoder: torch.Tensor, source_mask: torch.Tensor) -> torch.Tensor:
        """`[B, T, V]` of sources `[B, S]` and decoder inputs `[B, T]`; `source_mask` `[B, S]` is true where a token is real."""
        if self.is_marian:
            return self.module(
                input_ids=source, attention_mask=source_mask.long(), decoder_input_ids=decoder, use_cache=False
            ).logits
        if source_mask.all():
            return self.module(source, decoder)
        return self.module(source, decoder, padding=~source_mask)

    def loss(self, pairs: list[dict]) -> torch.Tensor:
        """The smoothed cross-entropy of each target token, averaged over all; each pair is computed by itself."""
        summed = []
        for pair in pairs:
            source, decoder = torch.tensor([pair["source"]]), torch.tensor([pair["target_in"]])
            logits = self.logits(source, decoder, torch.ones_like(source, dtype=torch.bool))
            summed.append(smoothed_sum(logits, torch.tensor([pair["target_out"]])))
        return torch.stack(summed).sum() / tokens(pairs)

    def padded_loss(self, pairs: list[dict]) -> torch.Tensor:
        """The same from one padded batch."""
        pad = self.config["pad_token_id"]
        source, decoder = (padded([pair[key] for pair in pairs], pad) for key in ("source", "target_in"))
        lengths = torch.tensor([len(pair["source"]) for pair in pairs])
        mask = torch.arange(source.shape[1])[None, :] < lengths[:, None]
        labels = padded([pair["target_out"] for pair in pairs], -100)
        return smoothed_sum(self.logits(source, decoder, mask), labels) / tokens(pairs)

    def backward(self, pairs: list[dict]) -> torch.Tensor:
        """The loss, its gradients left in the parameters."""
        self.module.zero_grad()
        loss = self.loss(pairs)
        loss.backward()
        return loss.detach()


def make(checkpoints: Path, out: Path) -> str:
    """Write the files of all checkpoints to `out`; returns a line about them."""
    torch.backends.mha.set_fastpath_enabled(False)
    lines = []
    for name in GRADIENTS:
        lines.append(make_step(checkpoints / name, out))
    for name in CURVES:
        lines.append(make_curve(checkpoints / name, out))
    return "\n  ".join(["", *lines])


def make_step(checkpoint: Path, out: Path) -> str:
    """Loss and gradients of one batch."""
    name = checkpoint.name
    single, double = (Trained(checkpoint, dtype) for dtype in (torch.float32, torch.float64))
    pairs = random_pairs(random.Random(common.seed_of(f"{name}.step")), double.config, STEP_LENGTHS)
    loss = double.backward(pairs)
    check_relative(f"{name}, padded loss", double.padded_loss(pairs).item(), loss.item(), 1e-12)
    check_relative(f"{name}, f32 loss", single.backward(pairs).item(), loss.item(), common.FLOAT32_ERROR)
    strayed = check_gradients(name, single, double)

    gradients = {key: parameter.grad for key, parameter in double.parameters.items()}
    whole = GRADIENTS[name] == "all"
    kept = {key: g.float() for key, g in gradients.items() if whole or ".layers." not in key}
    file = f"{name}.step.safetensors"
    common.write_tensors(out / file, kept)
    norm = torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt()
    head = {
        "checkpoint": name, "versions": common.versions(), "computed_in": "float64",
        "label_smoothing": LABEL_SMOOTHING, "target_tokens": tokens(pairs), "loss": rounded(loss),
        "gradient_norm": rounded(norm), "gradients": file, "gradients_of": GRADIENTS[name],
    }  # fmt: skip
    lists = {"pairs": pairs}
    if not whole:
        lists["gradient_norms"] = [{"name": key, "norm": rounded(g.norm())} for key, g in sorted(gradients.items())]
    common.write_json(out / f"{name}.step.json", head, lists)
    return f"{name}: loss {loss:.6f}, gradient norm {norm:.6f}, f32 strays by {strayed:.1e}"


def check_gradients(name: str, single: Trained, double: Trained) -> float:
    """Stop if the f32 gradients stray from those in f64; returns by how much they do."""
    scale = 1e-2 * max(p.grad.abs().max() for p in double.parameters.values())
    worst = 0.0
    for key, exact in double.parameters.items():
        error = (single.parameters[key].grad.double() - exact.grad).abs().max()
        error = (error / torch.maximum(exact.grad.abs().max(), scale)).item()
        if not error < FLOAT32_GRADIENT_ERROR:
            raise SystemExit(f"{name}: the f32 gradient of {key} is {error:.1e} from f64")
        worst = max(worst, error)
    return worst


def make_curve(checkpoint: Path, out: Path) -> str:
    """Losses of some hundred steps."""
    name = checkpoint.name
    schedule, clip_norm = CURVES[name]
    single, double = (Trained(checkpoint, dtype) for dtype in (torch.float32, torch.float64))
    rng = random.Random(common.seed_of(f"{name}.curve"))
    batches = []
    for _ in range(CURVE_BATCHES):
        lengths = rng.sample(CURVE_LENGTHS, rng.randint(4, len(CURVE_LENGTHS)))
        batches.append(random_pairs(rng, double.config, lengths))
    rates = [learning_rate(schedule, double.config["d_model"], step) for step in range(1, STEPS + 1)]
    losses, norms = train(double, batches, rates, clip_norm)
    close, _ = train(single, batches, rates, clip_norm)
    strayed = max(abs(a - b) / b for a, b in zip(close, losses))
    if not strayed < FLOAT32_CURVE_ERROR:
        raise SystemExit(f"{name}: the f32 curve strays by {strayed:.1e} from f64")
    head = {
        "checkpoint": name, "versions": common.versions(), "computed_in": "float64",
        "label_smoothing": LABEL_SMOOTHING, "clip_norm": clip_norm, "adam": ADAM, "schedule": schedule,
    }  # fmt: skip
    head |= {"learning_rates": rates, "losses": losses, "gradient_norms": norms}
    common.write_json(out / f"{name}.curve.json", head, {"batches": batches})
    clipped = sum(norm > clip_norm for norm in norms)
    return f"{name}: {STEPS} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}, {clipped} clipped, f32 strays by {strayed:.1e}"


def train(
    trained: Trained, batches: list[list[dict]], rates: list[float], clip_norm: float
) -> tuple[list[float], list[float]]:
    """The loss of each step before its update, and the gradient norm before clipping."""
    parameters = list(trained.parameters.values())
    adam = torch.optim.Adam(parameters, betas=(ADAM["beta1"], ADAM["beta2"]), eps=ADAM["epsilon"],
                            weight_decay=ADAM["weight_decay"])  # fmt: skip
    losses, norms = [], []
    for step, rate in enumerate(rates):
        losses.append(rounded(trained.backward(batches[step % len(batches)])))
        norms.append(rounded(torch.nn.utils.clip_grad_norm_(parameters, clip_norm)))
        adam.param_groups[0]["lr"] = rate
        adam.step()
    return losses, norms


def learning_rate(schedule: dict, d_model: int, step: int) -> float:
    """The rate of a step, counted from 1."""
    if schedule["kind"] == "constant":
        return schedule["learning_rate"]
    return schedule["scale"] * d_model**-0.5 * min(step**-0.5, step * schedule["warmup"] ** -1.5)


def random_pairs(rng: random.Random, config: dict, lengths: list[tuple[int, int]]) -> list[dict]:
    """Pairs of random tokens that end in eos, with the decoder's input: the start token, then the target without its end."""
    eos, start = config["eos_token_id"], config["decoder_start_token_id"]
    special = {eos, start, config["pad_token_id"], config["bos_token_id"]}
    vocabularies = [config["vocab_size"], config.get("decoder_vocab_size") or config["vocab_size"]]
    source_tokens, target_tokens = ([t for t in range(size) if t not in special] for size in vocabularies)
    pairs = []
    for source_length, target_length in lengths:
        target = common.random_sentence(rng, target_length, target_tokens, eos)
        source = common.random_sentence(rng, source_length, source_tokens, eos)
        pairs.append({"source": source, "target_in": [start] + target[:-1], "target_out": target})
    return pairs


def smoothed_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """PyTorch's cross-entropy with label smoothing over all V tokens, summed; labels of −100 count for nothing."""
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=-100, label_smoothing=LABEL_SMOOTHING, reduction="sum"
    )


def tokens(pairs: list[dict]) -> int:
    """Real target tokens, eos included."""
    return sum(len(pair["target_out"]) for pair in pairs)


def padded(rows: list[list[int]], filler: int) -> torch.Tensor:
    """`[B, longest]`."""
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def check_relative(what: str, value: float, exact: float, tolerance: float) -> None:
    """Stop if two ways to the same number part."""
    if not math.isclose(value, exact, rel_tol=tolerance):
        raise SystemExit(f"{what} is {value}, not {exact}")


def rounded(value: torch.Tensor) -> float:
    """A number with ten digits: more than any test can ask for."""
    return float(f"{value.item():.10g}")
