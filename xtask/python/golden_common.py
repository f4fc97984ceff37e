"""What the makers of fixtures share: random weights, random sentences, and the layout of the golden files."""

import json
import math
import random
import zlib
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

# Every reference is also run in f64 and with weights nudged by this relative amount. A generation that changes under
# either hangs on a near-tie, and no implementation could be held to it: it is not kept.
NUDGE = 2e-6
# f32 references must lie this close (relative to the largest value) to their own f64 run.
FLOAT32_ERROR = 2e-5


def seed_of(name: str) -> int:
    """The seed that a fixture's name fixes."""
    return zlib.crc32(name.encode())


def randomise(module: torch.nn.Module, generator: torch.Generator, embedding_std: float) -> None:
    """Draw weights that make a tiny untrained model decide sharply, and that no part of it may forget.

    Biases and norm weights are far from 0 and 1; matrices are scaled so that activations keep their size and attention
    is neither flat nor one-hot.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "embed_positions" in name:
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if "embed" in name or "shared" in name or "lm_head" in name or name.startswith("generator.weight"):
                parameter.copy_(noise * embedding_std)
            elif parameter.dim() == 2:
                # What a block adds outweighs what its residual carries: else a model with tied embeddings says the
                # token it has just read for ever.
                gain = 3.0 if any(last in name for last in ("out_proj", "fc2", "linear2")) else 1.4
                parameter.copy_(noise * gain / math.sqrt(parameter.shape[1]))
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1.0 + 0.25 * noise)
            else:
                parameter.copy_(0.2 * noise)


def nudged(weights: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """The weights, each changed by a relative 2e-6 or so."""
    generator = torch.Generator().manual_seed(seed)
    return {name: w + w * NUDGE * torch.randn(w.shape, generator=generator) for name, w in weights.items()}


def random_sentence(rng: random.Random, length: int, tokens: list[int], last: int | None) -> list[int]:
    """`length` ids drawn from `tokens`, the final one being `last` where that is given (and always so if length is 1)."""
    body = [rng.choice(tokens) for _ in range(length)]
    return body if last is None else body[: length - 1] + [last]


def check_close(name: str, single: torch.Tensor, double: torch.Tensor) -> None:
    """Stop if an f32 reference strays from its f64 run: such a fixture would test rounding, not meaning."""
    error = (single.double() - double).abs().max() / double.abs().max()
    if not error < FLOAT32_ERROR:
        raise SystemExit(f"{name}: the f32 reference is {error:.1e} from f64")


def versions() -> dict[str, str]:
    """The versions that answered."""
    return {"torch": torch.__version__, "transformers": transformers.__version__}


def write_json(path: Path, head: dict, lists: dict[str, list]) -> None:
    """A JSON object of `head`, then lists with one entry on each line: small, and readable in a diff."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key, entries in lists.items():
        rows = ",\n  ".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in entries)
        lines.append(f"{json.dumps(key)}: [\n  {rows}\n]")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A safetensors file of contiguous copies."""
    save_file({name: t.detach().clone().contiguous() for name, t in tensors.items()}, path)
    path.chmod(0o644)


def teacher_forced_tensors(index: int, source: list[int], decoder: list[int], encoder_output, logits) -> dict:
    """The four tensors of one teacher-forced sentence."""
    return {
        f"{index}.source_ids": torch.tensor(source, dtype=torch.int32),
        f"{index}.decoder_ids": torch.tensor(decoder, dtype=torch.int32),
        f"{index}.encoder_output": encoder_output.float(),
        f"{index}.logits": logits.float(),
    }


def rounded_score(score: float) -> float:
    """A score with the digits an f32 has."""
    return float(f"{score:.8g}")
