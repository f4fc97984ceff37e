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
EMBEDDING_STD = 0.3


def seed_of(name: str) -> int:
    """The seed that a fixture's name fixes."""
    return zlib.crc32(name.encode())


def randomise(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Draw weights no part of which may be forgotten: biases and norm weights are far from 0 and 1."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "embed_positions" in name and not parameter.requires_grad:
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if "embed" in name or "shared" in name or "lm_head" in name or name.startswith("generator.weight"):
                parameter.copy_(noise * EMBEDDING_STD)
            elif parameter.dim() == 2:
                parameter.copy_(noise / math.sqrt(parameter.shape[1]))
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1.0 + 0.25 * noise)
            else:
                parameter.copy_(0.2 * noise)


def train_briefly(model, forward, rng: random.Random, config: dict, steps: int) -> None:
    """Some Adam steps on a toy language, so that searches are eventful: an untrained model says one token for ever.

    Each token has two usual successors and sometimes gives way to the other name of a token of the source; a sentence may
    end anywhere, and after some tokens mostly does. `forward(source, decoder)` maps ids `[B, S]` and `[B, T]` to logits `[B, T, V]`.
    """
    eos, pad, start = config["eos_token_id"], config["pad_token_id"], config["decoder_start_token_id"]
    special = {eos, pad, start}
    source_tokens = [t for t in range(config["vocab_size"]) if t not in special]
    target_tokens = [t for t in range(config.get("decoder_vocab_size") or config["vocab_size"]) if t not in special]
    other_name = {token: rng.choice(target_tokens) for token in [*source_tokens, eos]}
    successors = {token: rng.sample(target_tokens, 2) for token in [*target_tokens, start]}
    final = set(rng.sample(target_tokens, len(target_tokens) // 6))

    def answer(source: list[int]) -> list[int]:
        said = [other_name[source[0]]]
        while len(said) < 20 and rng.random() > (0.7 if said[-1] in final else 0.06):
            first, second = successors[said[-1]]
            said.append(rng.choices([first, second, other_name[rng.choice(source)]], [5, 2, 3])[0])
        return said + [eos]

    parameters = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.Adam(parameters, lr=5e-3)
    for _ in range(steps):
        length = rng.randint(1, 14)
        sources = [random_sentence(rng, length, source_tokens, eos) for _ in range(24)]
        targets = [answer(source) for source in sources]
        width = max(map(len, targets))
        labels = torch.tensor([t + [-100] * (width - len(t)) for t in targets])
        decoder = torch.tensor([([start] + t + [pad] * width)[:width] for t in targets])
        logits = forward(torch.tensor(sources), decoder)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()


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
