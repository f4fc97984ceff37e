"""Makes processors.json: what the logits processors of Hugging Face `transformers` make of rows of
scores. `python crates/tfm-model/tests/golden/processors.py` with xtask/python/requirements.txt.

Each case has generation settings, the tokens so far (the decoder's start token first), the source's
tokens, a row of logits, and the row after the processors that `generate` would apply (null where it
is -inf): of raw logits, as greedy search and sampling apply them, and of log-probabilities, as beam
search does.
"""

import json
import pathlib

import torch
import transformers
from transformers import GenerationConfig
from transformers.generation import logits_process as lp

VOCABULARY = 24
EOS = [2]
torch.manual_seed(7)


def chain(settings, source, prompt):
    """The processors of `_get_logits_processor`, in its order."""
    s, eos = settings, torch.tensor(EOS)
    source = torch.tensor([source])
    chain = []
    if "sequence_bias" in s:
        chain.append(lp.SequenceBiasLogitsProcessor(s["sequence_bias"]))
    if "encoder_repetition_penalty" in s:
        chain.append(lp.EncoderRepetitionPenaltyLogitsProcessor(s["encoder_repetition_penalty"], source))
    if "repetition_penalty" in s:
        chain.append(lp.RepetitionPenaltyLogitsProcessor(s["repetition_penalty"]))
    if "no_repeat_ngram_size" in s:
        chain.append(lp.NoRepeatNGramLogitsProcessor(s["no_repeat_ngram_size"]))
    if "encoder_no_repeat_ngram_size" in s:
        chain.append(lp.EncoderNoRepeatNGramLogitsProcessor(s["encoder_no_repeat_ngram_size"], source))
    if "bad_words_ids" in s:
        chain.append(lp.NoBadWordsLogitsProcessor(s["bad_words_ids"], eos))
    if "min_length" in s:
        chain.append(lp.MinLengthLogitsProcessor(s["min_length"], eos))
    if "exponential_decay_length_penalty" in s:
        chain.append(lp.ExponentialDecayLengthPenalty(s["exponential_decay_length_penalty"], eos, prompt))
    if "suppress_tokens" in s:
        chain.append(lp.SuppressTokensLogitsProcessor(s["suppress_tokens"]))
    if "begin_suppress_tokens" in s:
        chain.append(lp.SuppressTokensAtBeginLogitsProcessor(s["begin_suppress_tokens"], prompt))
    if "temperature" in s:
        chain.append(lp.TemperatureLogitsWarper(s["temperature"]))
    if "top_h" in s:
        chain.append(lp.TopHLogitsWarper(s["top_h"]))
    if s.get("top_k"):
        chain.append(lp.TopKLogitsWarper(s["top_k"]))
    if "top_p" in s:
        chain.append(lp.TopPLogitsWarper(s["top_p"]))
    if "min_p" in s:
        chain.append(lp.MinPLogitsWarper(s["min_p"]))
    if "typical_p" in s:
        chain.append(lp.TypicalLogitsWarper(s["typical_p"]))
    if "epsilon_cutoff" in s:
        chain.append(lp.EpsilonLogitsWarper(s["epsilon_cutoff"]))
    if "eta_cutoff" in s:
        chain.append(lp.EtaLogitsWarper(s["eta_cutoff"]))
    return lp.LogitsProcessorList(chain)


EDITS = [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"encoder_repetition_penalty": 1.5},
    {"encoder_repetition_penalty": 0.8},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"encoder_no_repeat_ngram_size": 1},
    {"encoder_no_repeat_ngram_size": 2},
    {"bad_words_ids": [[5], [2], [9, 4], [3, 9, 6]]},
    {"min_length": 6},
    {"exponential_decay_length_penalty": [2, 1.4]},
    {"exponential_decay_length_penalty": [2, 0.6]},
    {"suppress_tokens": [3, 2, 11]},
    {"begin_suppress_tokens": [4, 8]},
    {"sequence_bias": [[[7], 1.5], [[8], -4.0], [[9, 4], 3.0], [[3, 9, 4], 0.25]]},
    {"repetition_penalty": 1.2, "encoder_repetition_penalty": 1.1, "no_repeat_ngram_size": 2,
     "sequence_bias": [[[4], 2.0]], "suppress_tokens": [6]},
]
DRAWS = [
    {"temperature": 0.6},
    {"temperature": 1.7, "top_k": 5},
    {"top_k": 3},
    {"top_p": 0.8},
    {"top_p": 0.3},
    {"min_p": 0.2},
    {"typical_p": 0.5},
    {"typical_p": 0.9},
    {"top_h": 0.4},
    {"epsilon_cutoff": 0.05},
    {"eta_cutoff": 0.2},
    {"temperature": 0.8, "top_k": 9, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.95},
    {"repetition_penalty": 1.4, "temperature": 0.9, "top_p": 0.85},
]
PASTS = [[1], [1, 9], [1, 3, 9], [1, 3, 9, 4, 3, 9], [1, 5, 5, 5], [1, 9, 4, 7, 11, 9, 4, 9]]
SOURCE = [9, 4, 6, 3, 9, 8, 0]


def row(values):
    return [None if value == float("-inf") else round(value, 5) for value in values.tolist()]


def main():
    cases = []
    for number, (settings, past) in enumerate((s, p) for s in EDITS + DRAWS for p in PASTS):
        logits = (torch.randn(1, VOCABULARY) * (1 + number % 3)).round(decimals=2)
        processors = chain(settings, SOURCE, 1)
        ids = torch.tensor([past])
        case = {"settings": settings, "past": past, "logits": row(logits[0])}
        case["processed"] = row(processors(ids, logits.clone())[0])
        if settings in EDITS:
            log_probabilities = logits.log_softmax(-1)
            case["processed_log_probabilities"] = row(processors(ids, log_probabilities)[0])
        cases.append(case)
    names = [name for name in GenerationConfig().__dict__ if not name.startswith("_")]
    path = pathlib.Path(__file__).with_name("processors.json")
    content = {"transformers": transformers.__version__, "eos": EOS, "source": SOURCE,
               "settings": names, "cases": cases}
    path.write_text(json.dumps(content) + "\n")
    print(f"{path}: {len(cases)} cases")


main()
