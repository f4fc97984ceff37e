//! Tokenisers (SentencePiece, tokenizer.json, Marian vocabularies) and the metrics BLEU and chrF.
