"""What `transformers` answers for the bundled checkpoint, its bf16 weights computed in f32, on a few real sentences."""

from pathlib import Path

import torch
from transformers import MarianMTModel, MarianTokenizer

import golden_common as common

# Lines of bundled.en, from 0, that are teacher-forced, and those of them whose cross-attention is kept.
FORCED_LINES = [0, 9, 16, 21, 22]
ALIGNED_LINES = [16, 21]
# Every 8th column of the logits is kept: a row is 4,000 long, and the rest would say little more.
LOGITS_STRIDE = 8


def make(checkpoint: Path, out: Path) -> str:
    """Read the sentences of `out`.en, write `out`.json and `out`.safetensors; returns a line about them."""
    texts = out.with_suffix(".en").read_text().splitlines()
    tokenizer = MarianTokenizer.from_pretrained(checkpoint)
    single, double = (load(checkpoint, dtype) for dtype in (torch.float32, torch.float64))
    close = load(checkpoint, torch.float32)
    close.load_state_dict(common.nudged(single.state_dict(), 0))

    lines = []
    for text in texts:
        source = tokenizer(text)["input_ids"]
        line = translate(single, source)
        if any(translate(model, source)["outputs"] != line["outputs"] for model in (double, close)):
            raise SystemExit(f"a near-tie decides {text!r}: take another sentence")
        greedy, beam = line["outputs"]
        decoded = tokenizer.batch_decode([greedy, beam], skip_special_tokens=True)
        lines.append({
            "text": text, "source": source, "greedy": greedy, "greedy_text": decoded[0], "beam4": beam,
            "beam4_text": decoded[1], "beam4_score": line["score"],
        })  # fmt: skip

    tensors, teacher_forced = {}, []
    start = single.config.decoder_start_token_id
    for index, line in enumerate(FORCED_LINES):
        source, decoder = lines[line]["source"], [start] + lines[line]["beam4"][:-1]
        answer, exact = (teacher_force(model, source, decoder) for model in (single, double))
        common.check_close(f"line {line}", answer.encoder_last_hidden_state, exact.encoder_last_hidden_state)
        common.check_close(f"line {line}", answer.logits, exact.logits)
        parts = common.teacher_forced_tensors(
            index, source, decoder, answer.encoder_last_hidden_state[0], answer.logits[0]
        )
        parts[f"{index}.logits_strided"] = parts.pop(f"{index}.logits")[:, ::LOGITS_STRIDE]
        if line in ALIGNED_LINES:
            parts[f"{index}.cross_attention"] = torch.stack([w[0].mean(dim=0) for w in answer.cross_attentions])
        tensors |= parts
        teacher_forced.append({"line": line, "aligned": line in ALIGNED_LINES})
    common.write_tensors(out.with_suffix(".safetensors"), tensors)
    head = {"model": checkpoint.name, "versions": common.versions(), "computed_in": "float32",
            "logits_stride": LOGITS_STRIDE}  # fmt: skip
    lists = {"lines": lines, "teacher_forced": teacher_forced}
    common.write_json(out.with_suffix(".json"), head, lists)
    return f"{len(lines)} sentences, {sum(len(line['beam4']) for line in lines)} tokens"


def load(checkpoint: Path, dtype: torch.dtype) -> MarianMTModel:
    """The checkpoint computing in `dtype`, with its own generation_config.json."""
    return MarianMTModel.from_pretrained(checkpoint, dtype=dtype, attn_implementation="eager").eval()


def translate(model: MarianMTModel, source: list[int]) -> dict:
    """Greedy and beam-4 ids of one sentence by itself, without the start token, and the beam's score."""
    ids = torch.tensor([source])
    common_options = {"attention_mask": torch.ones_like(ids), "return_dict_in_generate": True, "output_scores": True}
    with torch.inference_mode():
        greedy = model.generate(ids, num_beams=1, **common_options)
        beam = model.generate(ids, num_beams=4, **common_options)
    outputs = [answer.sequences[0, 1:].tolist() for answer in (greedy, beam)]
    return {"outputs": outputs, "score": common.rounded_score(beam.sequences_scores.item())}


def teacher_force(model: MarianMTModel, source: list[int], decoder: list[int]):
    """The model's answer to one sentence and decoder input, attention weights included."""
    ids = torch.tensor([source])
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=torch.tensor([decoder]),
                     output_attentions=True)  # fmt: skip
