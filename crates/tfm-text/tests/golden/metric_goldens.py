"""What sacreBLEU says of translations in many scripts; `make_golden.py` writes it down."""

import random

import sacrebleu
from sacrebleu.significance import PairedTest

# A reference, a translation of it with other words or another order, and a second reference.
HELD = [
    # Latin
    ("The old bridge over the river was closed for repairs on Monday, 3 March.",
     "On Monday, 3 March the old bridge over the river was closed for repair.",
     "The old river bridge closed on Monday (3 March) for repairs."),
    ("Am Abend saßen wir lange am Feuer und erzählten uns Geschichten.",
     "Wir saßen am Abend lange am Feuer und erzählten Geschichten uns.",
     "Abends saßen wir lange beim Feuer; wir erzählten uns Geschichten."),
    ("L'eau du lac n'était pas froide : 21,5 °C à midi.", "À midi, l'eau du lac était froide : 21.5°C.",
     "À midi l'eau du lac, à 21,5 °C, n'était pas froide."),
    # Cyrillic
    ("Вчера мы долго ждали поезд на маленькой станции.", "Мы вчера на маленькой станции долго ждали поезд.",
     "Вчера на маленькой станции мы долго ждали поезда!"),
    # Greek
    ("Η γάτα κοιμάται πάνω στο παλιό ΤΡΑΠΕΖΙ της κουζίνας.", "Πάνω στο τραπέζι της κουζίνας κοιμάται η γάτα.",
     "Στο παλιό τραπέζι της κουζίνας κοιμάται μια γάτα."),
    # Arabic
    ("ذهبت أختي إلى السوق صباحًا، ثم عادت بالخبز.", "صباحًا ذهبت أختي إلى السوق ثم عادت بالخبز.",
     "في الصباح ذهبت أختي إلى السوق، وعادت بالخبز."),
    # Hebrew
    ("הילדים שיחקו בגן עד שירד הגשם.", "עד שירד הגשם הילדים שיחקו בגן .", "הילדים שיחקו בפארק עד הגשם."),
    # Devanagari
    ("मेरे भाई ने कल एक नई साइकिल खरीदी।", "कल मेरे भाई ने एक साइकिल नई खरीदी ।", "मेरे भाई ने कल नई साइकिल ली।"),
    # Chinese
    ("我们昨天在图书馆看书，晚上八点才回家。", "昨天我们在图书馆看书，八点晚上回家。", "昨天，我们在图书馆读书，晚上 8 点才回家！"),
    # Japanese
    ("駅前の新しいカフェで友達と「コーヒー」を飲みました。", "友達と駅前の新しいカフェで、コーヒーを飲んだ。",
     "新しい駅前のカフェで友だちとｺｰﾋｰを飲みました。"),
    # Korean
    ("어제 우리는 시장에서 사과와 배를 샀습니다.", "우리는 어제 사과와 배를 시장에서 샀다.", "우리는 어제 시장에서 배와 사과를 샀습니다."),
    # Thai
    ("เมื่อวานนี้ ฝนตกหนัก เราจึงอยู่บ้าน", "เราจึงอยู่บ้าน เมื่อวานนี้ ฝนตก", "ฝนตกหนัก เมื่อวานนี้ เราอยู่ที่บ้าน"),
    # Empty lines, marks alone, entities, signs outside the first plane
    ("", "Nobody asked.", ""),
    ("Nothing came back.", "", "Nothing came back !"),
    ("", "", "There is a second one."),
    ("...", "?!", "…"),
    ("John's dog isn't the neighbours' &quot;dog&quot; &amp; costs $1,000.50 - or 3-4 more.",
     "The dog of John isn't the neighbours's \"dog\" & costs 1,000.50$ or 3 - 4 more's",
     "&lt;John's&gt; dog isn't his neighbour's, &amp;amp; costs $ 1000.50."),
    ("𠀋𡈽 is rare 🙂🙃, ㎏ and ㈱ are not; ６．５（六）々〇⼀", "rare 🙃🙂 is 𠀋 𡈽 , ㈱ and ㎏ ; 6.5(六)〇々⼀", "𠀋 rare"),
]


def long_lines():
    """Lines at the limits of the shift search and of the beam, with repeated words."""
    generator = random.Random(8)
    for length, words, other in ((60, 12, 60), (150, 40, 140), (12, 3, 150), (130, 9, 4), (90, 1000, 90), (1, 1, 120)):
        reference = [f"w{generator.randrange(words)}" for _ in range(length)]
        hypothesis = (reference * (other // length + 1))[:other]
        for _ in range(4):
            start, size, target = (generator.randrange(len(hypothesis)) for _ in range(3))
            part = hypothesis[start:start + size % 14]
            rest = hypothesis[:start] + hypothesis[start + size % 14:]
            hypothesis = rest[:target] + part + rest[target:]
        second = reference[::-1]
        yield " ".join(reference), " ".join(hypothesis), " ".join(second)


def corpora(french, snippets):
    generator = random.Random(4)

    def damage(line):
        words = line.split(" ")
        if generator.random() < 0.4 and len(words) > 2:
            i = generator.randrange(len(words) - 1)
            words[i], words[i + 1] = words[i + 1], words[i]
        if generator.random() < 0.4:
            words.pop(generator.randrange(len(words)))
        return " ".join(words).replace("e", "é" if generator.random() < 0.1 else "e")

    references, hypotheses, seconds = (list(column) for column in zip(*HELD))
    long_references, long_hypotheses, long_seconds = (list(column) for column in zip(*long_lines()))
    return {
        "tatoeba": ([damage(line) for line in french], [french]),
        "two references": ([damage(line) for line in french], [french, [damage(line) for line in french]]),
        "short": (["a", "b c"], [["a b c d e", "b c"]]),
        "no match": (["x y z", "u"], [["a b c", "d"]]),
        "empty lines": (["", "a b c d", ""], [["", "a b c d", "e f"]]),
        "all empty": ([""], [[""]]),
        "hostile": (
            [*snippets, "1,000.5 -3 3-4 a.b,c. &quot;x&quot; &amp;lt; <skipped> x-\ny", "£5 (hi), it's \"ok\"… n°5 €2,50",
             "ÉCOLE İstanbul ΣΑΣ", "\u0663,\u0664 ½.½ a\u00a0b\u3000c\x1cd", "(a) a! !a ! !! ¡a! 'q'"],
            [[*snippets[1:], snippets[0], "1,000.5 -3 3 - 4 a.b, c . \"x\" &lt; xy", "£ 5 (hi) , it's \" ok \" … n°5 € 2,50",
              "école i\u0307stanbul σας", "\u0663,\u0664 ½ . ½ a b c d", "(a) a ! ! a !! ¡ a ! 'q'"]]),
        "scripts": (hypotheses, [references]),
        "scripts, three references": (hypotheses, [references, seconds, references[1:] + references[:1]]),
        "long": (long_hypotheses, [long_references]),
        "long, two references": (long_hypotheses, [long_seconds, long_references]),
    }


def goldens(french, snippets):
    """The scores of every corpus by every metric."""
    bleus = [dict(tokenize=t, lowercase=lc, effective_order=e, smooth_method="exp")
             for t in ("13a", "intl", "zh", "char", "none") for lc in (False, True) for e in (False, True)]
    bleus += [dict(tokenize="13a", lowercase=False, effective_order=e, smooth_method=s, smooth_value=v)
              for s, v in (("floor", 0.1), ("floor", 0.5), ("add-k", 1), ("add-k", 2.5), ("none", None))
              for e in (False, True)]
    chrfs = [dict(word_order=w, char_order=c, lowercase=lc)
             for w, c in ((0, 6), (2, 6), (1, 4)) for lc in (False, True)]
    ters = [dict(normalized=n, no_punct=p, asian_support=a, case_sensitive=c)
            for n in (False, True) for p in (False, True) for a in (False, True) for c in (False, True)]

    def record(metric, options, hypotheses, references):
        score = metric.corpus_score(hypotheses, references)
        lines = [metric.sentence_score(h, list(r)).score for h, *r in zip(hypotheses, *references)]
        return {"options": options, "score": score.score, "line": str(score),
                "signature": str(metric.get_signature()), "sentences": lines}

    return {
        name: {
            "hypotheses": hypotheses, "references": references,
            "bleu": [record(sacrebleu.BLEU(**o), o, hypotheses, references) for o in bleus],
            "chrf": [record(sacrebleu.CHRF(**o), o, hypotheses, references) for o in chrfs],
            # Many lines, and long ones, take sacreBLEU minutes.
            "ter": [record(sacrebleu.TER(**o), o, hypotheses, references)
                    for o in (ters if name.startswith(("scripts", "hostile")) else ters[:1])],
        }
        for name, (hypotheses, references) in corpora(french, snippets).items()
    }


def significance(french):
    """Tests by chance of three systems against two references, with sacreBLEU's own seed."""
    generator = random.Random(9)

    def damage(line, rate):
        words = [word for word in line.split(" ") if generator.random() > rate]
        return " ".join(words)

    systems = [[damage(line, rate) for line in french] for rate in (0.2, 0.21, 0.35)]
    references = [french, [damage(line, 0.1) for line in french]]
    metrics = {"bleu": sacrebleu.BLEU(references=references), "chrf": sacrebleu.CHRF(references=references),
               "ter": sacrebleu.TER(references=references)}
    named = [(str(number), system) for number, system in enumerate(systems)]
    results = {"systems": systems, "references": references}
    for kind, samples in (("bs", 500), ("ar", 800)):
        _, scores = PairedTest(named, metrics, None, kind, samples)()
        results[kind] = {"samples": samples} | {
            key: [[float(x) if x is not None else None for x in (r.score, r.p_value, r.mean, r.ci)] for r in column]
            for key, column in zip(("bleu", "chrf", "ter"), [c for n, c in scores.items() if n != "System"])}
    return results
