"""Makes search.json: what `generate` of Hugging Face transformers does with a model that is a table.

The model's logits are a row of a table, chosen by the last two decoder tokens, their number and the source's only
token (the formula is in `TableModel.forward`), so that another implementation can search the same space exactly.
The file holds log-softmax and log-sum-exp of each row, as transformers computes them, and for each case the options
that differ from the defaults and the hypotheses that come out.

    python search.py            # needs torch and transformers 5; writes search.json beside itself
"""

import json
import random
from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

START, EOS, PAD = 1, 2, 0
ROWS = 48


class TableConfig(PreTrainedConfig):
    model_type = "table"


class Encoder(torch.nn.Module):
    main_input_name = "input_ids"

    def forward(self, input_ids, **_):
        return BaseModelOutput(last_hidden_state=input_ids[..., None].float())


class TableModel(PreTrainedModel, GenerationMixin):
    config_class = TableConfig
    main_input_name = "input_ids"

    def __init__(self, config, table):
        super().__init__(config)
        self.table = torch.nn.Parameter(table, requires_grad=False)
        self.encoder = Encoder()

    def get_encoder(self, *_, **__):
        return self.encoder

    def prepare_inputs_for_generation(self, decoder_input_ids, **kwargs):
        return {"decoder_input_ids": decoder_input_ids, "encoder_outputs": kwargs["encoder_outputs"]}

    def forward(self, input_ids=None, decoder_input_ids=None, encoder_outputs=None, **_):
        tokens = decoder_input_ids
        source = encoder_outputs.last_hidden_state[:, 0, 0].long()
        before = tokens[:, -2] if tokens.shape[1] > 1 else 0
        row = (7 * tokens[:, -1] + 3 * before + 5 * tokens.shape[1] + 11 * source) % ROWS
        return Seq2SeqLMOutput(logits=self.table[row][:, None])


def table(vocabulary, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(ROWS, vocabulary, generator=generator)
    logits[:, EOS] += 0.7
    return logits


def case(rng, vocabulary):
    """A case's options under the names of transformers; lengths include the start token."""
    beams = rng.choice([1, 1, 2, 3, 4, 4, 5])
    options = {"num_beams": beams, "max_length": rng.choice([2, 4, 7, 12, 20])}
    if beams > 1:
        options["num_return_sequences"] = rng.randint(1, beams)
        options["length_penalty"] = rng.choice([0.0, 0.6, 1.0, 1.0, 2.0, -1.0])
        options["early_stopping"] = rng.choice([False, False, True, "never"])
    words = lambda low, high: [rng.randrange(vocabulary) for _ in range(rng.randint(low, high))]
    if rng.random() < 0.3:
        options["min_length"] = min(rng.choice([2, 3, 5, 20]), options["max_length"])
    if rng.random() < 0.2:
        options["forced_bos_token_id"] = rng.randrange(3, vocabulary)
    if rng.random() < 0.2:
        options["forced_eos_token_id"] = EOS
    if rng.random() < 0.2 and beams == 1:
        options["forced_eos_token_id"] = [EOS, 4]
    if rng.random() < 0.4:
        options["bad_words_ids"] = [[PAD]] + [words(1, 3) for _ in range(rng.randint(0, 4))]
    if rng.random() < 0.3:
        options["no_repeat_ngram_size"] = rng.randint(1, 3)
    if rng.random() < 0.3:
        options["repetition_penalty"] = rng.choice([1.1, 1.5, 3.0])
    if rng.random() < 0.3:
        options["eos_token_id"] = [EOS, 3] if rng.random() < 0.7 else [3, EOS, 5]
    if rng.random() < 0.2 and options["max_length"] > 4:
        options["prefix"] = [rng.randrange(3, vocabulary) for _ in range(rng.randint(1, 3))]
    # Penalties are on log-probabilities before they are normalised again; a search is given them after
    # that, so the two together are equal only where no token is banned outright.
    if rng.random() < 0.2 and not {"repetition_penalty", "bad_words_ids"} <= options.keys():
        options["renormalize_logits"] = True
    return options


def generate(model, options, sources):
    options = dict(options)
    prefix = options.pop("prefix", [])
    config = GenerationConfig(
        **{"eos_token_id": EOS, "pad_token_id": PAD, "decoder_start_token_id": START} | options,
        do_sample=False, use_cache=False, return_dict_in_generate=True, output_scores=True,
    )
    inputs = {"input_ids": torch.tensor([[source] for source in sources])}
    if prefix:
        inputs["decoder_input_ids"] = torch.tensor([[START, *prefix]] * len(sources))
    out = model.generate(**inputs, generation_config=config)
    best = options.get("num_return_sequences", 1)
    eos = options.get("eos_token_id", EOS)
    results = []
    for i in range(len(sources)):
        hypotheses = []
        for j in range(i * best, (i + 1) * best):
            tokens = out.sequences[j, 1:].tolist()
            if options["num_beams"] == 1:
                free = tokens[len(prefix):]
                ends = [at + 1 for at, token in enumerate(free) if token in (eos if isinstance(eos, list) else [eos])]
                hypotheses.append([tokens[: len(prefix) + ends[0]] if ends else tokens])
                continue
            score = out.sequences_scores[j].item()
            if score < -1e8:
                continue  # transformers fills up with these where there are not enough hypotheses
            indices = out.beam_indices[j].tolist()
            count = sum(index >= 0 for index in indices)
            beams = [index % options["num_beams"] for index in indices[:count]]
            hypotheses.append([tokens[: len(prefix) + count], score, beams])
        results.append(hypotheses)
    return results


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    rng = random.Random(20171206)
    fixture = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0], "tables": []}
    for vocabulary, cases in [(26, 300), (9, 60)]:
        logits = table(vocabulary, seed=vocabulary)
        model = TableModel(TableConfig(is_encoder_decoder=True, vocab_size=vocabulary), logits).eval()
        entry = {
            "vocabulary": vocabulary,
            "log_probabilities": torch.log_softmax(logits, -1).flatten().tolist(),
            "log_sum_exps": torch.logsumexp(logits, -1).tolist(),
            "cases": [],
        }
        for number in range(cases):
            options = case(rng, vocabulary)
            sources = [rng.randrange(1000), rng.randrange(1000)]
            entry["cases"].append({"options": options, "sources": sources, "results": generate(model, options, sources)})
        fixture["tables"].append(entry)
    path = Path(__file__).with_name("search.json")
    entries = []
    for entry in fixture["tables"]:
        cases = ",\n".join(json.dumps(one, separators=(",", ":")) for one in entry.pop("cases"))
        entries.append(json.dumps(entry, separators=(",", ":"))[:-1] + ',"cases":[\n' + cases + "\n]}")
    head = {key: value for key, value in fixture.items() if key != "tables"}
    path.write_text(json.dumps(head)[:-1] + ', "tables": [\n' + ",\n".join(entries) + "\n]}\n")


if __name__ == "__main__":
    main()
