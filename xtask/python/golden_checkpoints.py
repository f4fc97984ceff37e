"""Tiny checkpoints of any family, saved and answered by `transformers`."""

import copy
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel

import golden_common as common

SOURCE_LENGTHS = [1, 2, 5, 3, 9, 14]
CANDIDATES = 8


@dataclass
class Spec:
    """One checkpoint: `config` has its family's fields, the rest says how it is drawn and stored."""

    name: str
    model_class: type[PreTrainedModel]
    config: dict
    stored: torch.dtype = torch.float32
    shard_size: str | None = None


def make(spec: Spec, out: Path) -> str:
    """Write the checkpoint and its goldens to `out`; returns a line about them."""
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    save_checkpoint(spec, out)

    single = load(spec, out, torch.float32)
    double = load(spec, out, torch.float64)
    close = []
    for seed in range(3):
        model = load(spec, out, torch.float32)
        model.load_state_dict(common.nudged(single.state_dict(), seed))
        close.append(model)

    rng = random.Random(common.seed_of(spec.name))
    config = spec.config
    special = {config["eos_token_id"], config["pad_token_id"]}
    source_tokens = [t for t in range(config["vocab_size"]) if t not in special]
    target_tokens = [t for t in range(config.get("decoder_vocab_size", config["vocab_size"])) if t not in special]
    eos = config["eos_token_id"]

    tensors, teacher_forced = {}, []
    for index, length in enumerate([1, 4, 2, 7, 11]):
        source = common.random_sentence(rng, length, source_tokens, eos)
        decoder = [config["decoder_start_token_id"]] + common.random_sentence(rng, 12 - length, target_tokens, None)
        tensors |= teacher_force(single, double, index, source, decoder)
        teacher_forced.append({"source": source, "decoder": decoder})
    common.write_tensors(out / "golden.safetensors", tensors)

    sources = [lively_source(single, spec, rng, length, source_tokens) for length in SOURCE_LENGTHS]
    generations, dropped = [], 0
    for options in option_sets(spec, rng, target_tokens):
        for source in sources:
            case = generate(single, spec, source, options)
            if case is None or any(generate(m, spec, source, options, case) is None for m in [double, *close]):
                dropped += 1
            else:
                generations.append(case)
    defaults = default_generations(spec, out, sources)
    head = {"model": spec.name, "versions": common.versions(), "computed_in": "float32"}
    lists = {"teacher_forced": teacher_forced, "generations": generations, "defaults": defaults}
    common.write_json(out / "golden.json", head, lists)
    return f"{len(generations)} generations kept, {dropped} dropped; {summary(generations, eos)}"


def save_checkpoint(spec: Spec, out: Path) -> None:
    """Draw and train the weights, and let `transformers` save them, in the type and number of files that the spec asks for."""
    generator = torch.Generator().manual_seed(common.seed_of(spec.name))
    config = spec.model_class.config_class(**spec.config)
    model = spec.model_class(config)
    common.randomise(model, generator)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.copy_(0.5 * torch.randn(model.final_logits_bias.shape, generator=generator))
    is_marian = config.model_type == "marian"
    one_input_embedding = is_marian and config.share_encoder_decoder_embeddings and not config.tie_word_embeddings
    if one_input_embedding:
        # `transformers` shares nothing at all when tie_word_embeddings is false: this is what the other flag says.
        model.model.encoder.embed_tokens = model.model.decoder.embed_tokens = model.model.shared
    model.eval()  # no dropout

    def forward(source: torch.Tensor, decoder: torch.Tensor) -> torch.Tensor:
        return model(input_ids=source, attention_mask=torch.ones_like(source), decoder_input_ids=decoder).logits

    common.train_briefly(model, forward, random.Random(common.seed_of(spec.name)), spec.config, steps=300)
    if one_input_embedding:
        model.model.encoder.embed_tokens = copy.deepcopy(model.model.shared)
        model.model.decoder.embed_tokens = copy.deepcopy(model.model.shared)
    model.generation_config = GenerationConfig(
        bad_words_ids=[[config.pad_token_id]],
        decoder_start_token_id=config.decoder_start_token_id,
        eos_token_id=config.eos_token_id,
        forced_eos_token_id=spec.config.get("forced_eos_token_id"),
        max_length=24,
        num_beams=3,
        pad_token_id=config.pad_token_id,
    )
    shards = {"max_shard_size": spec.shard_size} if spec.shard_size else {}
    model.to(spec.stored).save_pretrained(out, **shards)
    for file in out.iterdir():
        file.chmod(0o644)


def load(spec: Spec, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The saved checkpoint, computing in `dtype`, with no generation defaults beyond the special tokens."""
    model, info = spec.model_class.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        raise SystemExit(f"{folder} does not load cleanly: {info}")
    c = model.config
    model.generation_config = GenerationConfig(
        decoder_start_token_id=c.decoder_start_token_id, eos_token_id=c.eos_token_id, pad_token_id=c.pad_token_id
    )
    return model.eval()


def teacher_force(single, double, index: int, source: list[int], decoder: list[int]) -> dict:
    """Encoder output `[S, d_model]` and logits `[T, V]` of one sentence by itself."""
    results = []
    for model in (single, double):
        with torch.inference_mode():
            answer = model(
                input_ids=torch.tensor([source]),
                attention_mask=torch.ones(1, len(source), dtype=torch.long),
                decoder_input_ids=torch.tensor([decoder]),
            )
        results.append((answer.encoder_last_hidden_state[0], answer.logits[0]))
    for a, b in zip(*results):
        common.check_close(f"sentence {index}", a, b)
    return common.teacher_forced_tensors(index, source, decoder, *results[0])


def option_sets(spec: Spec, rng: random.Random, target_tokens: list[int]) -> list[dict]:
    """The searches each source goes through. Every set is complete: nothing is taken from generation_config.json."""
    eos, pad = spec.config["eos_token_id"], spec.config["pad_token_id"]
    banned = [[pad]] + [[t] for t in rng.sample(target_tokens, 3)]
    bos = rng.choice(target_tokens)
    end = {"forced_eos_token_id": eos}

    def beam(beams: int, nbest: int, penalty: float, early, **rest) -> dict:
        return {
            "num_beams": beams, "num_return_sequences": nbest, "length_penalty": penalty, "early_stopping": early,
            "bad_words_ids": [[pad]], **rest,
        }  # fmt: skip

    greedy = {"num_beams": 1, "bad_words_ids": [[pad]]}
    sets = [
        greedy | {"max_length": 24} | end,
        greedy | {"max_new_tokens": 9},
        greedy | {"max_new_tokens": 12, "min_length": 8} | end,
        greedy | {"max_length": 16, "forced_bos_token_id": bos} | end,
        greedy | {"max_new_tokens": 16, "bad_words_ids": banned} | end,
        greedy | {"max_new_tokens": 16, "no_repeat_ngram_size": 2} | end,
        greedy | {"max_new_tokens": 16, "repetition_penalty": 1.3} | end,
    ]
    for early in (False, True, "never"):
        for penalty in (0.6, 1.0, 2.0):
            sets.append(beam(4, 4, penalty, early, max_length=20, **end))
        sets.append(beam(2, 2, 1.0, early, max_new_tokens=14))
    sets += [
        beam(4, 1, 1.0, False, max_new_tokens=6, **end),
        beam(4, 1, 1.0, False, max_new_tokens=1, **end),
        beam(4, 3, 1.0, False, max_new_tokens=1),
        beam(3, 3, 0.0, "never", max_new_tokens=18, **end),
        beam(4, 4, -0.5, False, max_new_tokens=18, **end),
        beam(4, 2, 1.0, False, max_length=20, min_length=7, **end),
        beam(4, 2, 1.0, True, max_new_tokens=18, min_new_tokens=5, **end),
        beam(4, 4, 0.6, False, max_length=20, forced_bos_token_id=bos, **end),
        beam(2, 2, 2.0, "never", max_length=20, forced_bos_token_id=bos, **end),
        beam(4, 2, 1.0, False, max_new_tokens=18, **end) | {"bad_words_ids": banned},
        beam(4, 4, 1.0, False, max_new_tokens=18, no_repeat_ngram_size=2, **end),
        beam(4, 2, 1.0, False, max_new_tokens=18, repetition_penalty=1.3, **end),
        beam(6, 4, 1.0, True, max_new_tokens=18, **end),
    ]
    return sets


def lively_source(model, spec: Spec, rng: random.Random, length: int, tokens: list[int]) -> list[int]:
    """Of a few random sources, the one whose n-best list depends most on how the search is told to stop."""
    eos, pad = spec.config["eos_token_id"], spec.config["pad_token_id"]
    options = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 18, "forced_eos_token_id": eos}

    def liveliness(source: list[int]) -> int:
        found = set()
        for early in (False, True, "never"):
            for penalty in (0.6, 2.0):
                asked = {"early_stopping": early, "length_penalty": penalty, "bad_words_ids": [[pad]], **options}
                case = generate(model, spec, source, asked)
                if case:
                    found |= {len(output) for output in case["outputs"]} | {str(case["outputs"])}
        return len(found)

    return max((common.random_sentence(rng, length, tokens, eos) for _ in range(CANDIDATES)), key=liveliness)


def generate(model, spec: Spec, source: list[int], options: dict, expected: dict | None = None) -> dict | None:
    """One source through `generate`. None if it left a place in the n-best list unfilled (which `transformers` marks
    with a score near -1e9), or, given `expected`, if the hypotheses are not the same."""
    with torch.inference_mode():
        answer = model.generate(
            torch.tensor([source]),
            attention_mask=torch.ones(1, len(source), dtype=torch.long),
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
    outputs = [trim(ids, spec.config) for ids in answer.sequences.tolist()]
    scores = []
    if options["num_beams"] > 1:
        scores = [common.rounded_score(s) for s in answer.sequences_scores.tolist()]
        if min(scores) < -1e8:
            return None
    if expected is not None and outputs != expected["outputs"]:
        return None
    return {"source": source, "options": options, "outputs": outputs, "scores": scores}


def default_generations(spec: Spec, folder: Path, sources: list[list[int]]) -> list[dict]:
    """The best output for each source when nothing is asked: generation_config.json rules."""
    model = spec.model_class.from_pretrained(folder, dtype=torch.float32).eval()
    config = json.loads((folder / "config.json").read_text())
    cases = []
    for source in sources:
        ids = torch.tensor([source])
        with torch.inference_mode():
            answer = model.generate(ids, attention_mask=torch.ones_like(ids), return_dict_in_generate=True,
                                    output_scores=True)  # fmt: skip
        score = common.rounded_score(answer.sequences_scores.item())
        cases.append({"source": source, "output": trim(answer.sequences[0].tolist(), config), "score": score})
    return cases


def trim(ids: list[int], config: dict) -> list[int]:
    """Without the decoder's start token and the padding behind (which no search may produce: it is banned). Where padding
    is token 0, `generate` pads with the end token."""
    ids = ids[1:]
    if config["eos_token_id"] in ids:
        ids = ids[: ids.index(config["eos_token_id"]) + 1]
    while ids and ids[-1] == config["pad_token_id"]:
        ids.pop()
    if config["pad_token_id"] in ids:
        raise SystemExit(f"padding inside an output: {ids}")
    return ids


def summary(cases: list[dict], eos: int) -> str:
    """How rich the searches are: output lengths, and the share that ended by itself."""
    lengths = [len(output) for case in cases for output in case["outputs"]]
    ended = [output[-1] == eos for case in cases for output in case["outputs"]]
    histogram = {length: lengths.count(length) for length in sorted(set(lengths))}
    return f"lengths {histogram}, {sum(ended) / len(ended):.0%} end in eos"
