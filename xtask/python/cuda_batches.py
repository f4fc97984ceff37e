"""Batches of random ids for training on a GPU, a line each, as `training_speed` and `peers_training.py` read them.

    python cuda_batches.py --config config.json [--tokens 16384] > F.jsonl

Sentences of 8 to 64 tokens, with targets of about the source's length, sorted into batches of like length as training does.
"""

import argparse
import json
import random

SEED, LINES, SHORTEST, LONGEST = 7, 4, 8, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="Marian's config.json")
    parser.add_argument("--tokens", type=int, default=16384, help="source tokens of a batch")
    options = parser.parse_args()
    with open(options.config, encoding="utf-8") as file:
        config = json.load(file)
    end, words = config["eos_token_id"], config["vocab_size"] - 1
    draw = random.Random(SEED)

    def sentence(length: int) -> list[int]:
        return [draw.randrange(2, words) for _ in range(length - 1)] + [end]

    for line in range(LINES):
        step = (LONGEST - SHORTEST) // LINES
        shortest = SHORTEST + line * step
        sources, targets, count = [], [], 0
        while count < options.tokens:
            length = draw.randint(shortest, shortest + step)
            sources.append(sentence(length))
            targets.append(sentence(max(2, length + draw.randint(-3, 3))))
            count += length
        print(json.dumps({"sources": sources, "targets": targets}))


if __name__ == "__main__":
    main()
