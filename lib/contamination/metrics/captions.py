"""Generated captions against reference captions.

Every metric sees the words that `tokenize` gives, so the values stand beside each other, but not beside published ones:
those use the PTB tokenizer, which needs Java. METEOR and SPICE need Java, too, and the optional package pycocoevalcap;
where something is missing they have no value, and `absent` says why.
"""

import atexit
import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
import unicodedata
from pathlib import Path
from typing import IO

from contamination.base.files import package_folder

# Chinese characters and Japanese syllables: scripts without spaces, in which a character is the usual unit.
UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
REQUIRED_FILES = {  # files below pycocoevalcap; pip does not bring the two of Stanford
    "meteor": ("meteor/meteor-1.5.jar", "meteor/data/paraphrase-en.gz"),
    "spice": (
        "spice/spice-1.0.jar",
        "spice/lib/stanford-corenlp-3.6.0.jar",
        "spice/lib/stanford-corenlp-3.6.0-models.jar",
    ),
}
METEOR_WORDS = 200  # a few hundred repetitions of one word, which bad captions do contain, take its aligner minutes
_failures: dict[str, str] = {}  # why METEOR or SPICE gave no value at the latest scoring


def score(candidates: list[str], references: list[list[str]]) -> list[dict]:
    """Score one candidate per image against the references of that image: dicts (metric, value, n), n images.

    Metrics: bleu_1 to bleu_4, rouge_l, cider, and meteor and spice unless `absent` names them afterwards.
    A candidate or reference without words is a caption that matches nothing.
    Raises ValueError for no images, for lists of unequal length and for an image without a reference.
    """
    _require_pairs(candidates, references)
    said = [tokenize(text) for text in candidates]
    meant = [[tokenize(text) for text in several] for several in references]
    values = {f"bleu_{order}": bleu(said, meant, order) for order in range(1, 5)}
    values |= {"rouge_l": rouge_l(said, meant), "cider": cider(said, meant)}
    _failures.clear()
    missing = absent()
    for name, measure in {"meteor": meteor, "spice": spice}.items():
        if name not in missing:
            try:
                values[name] = measure(said, meant)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                _failures[name] = " ".join(f"failed: {error}".split())
    return [{"metric": name, "value": value, "n": len(candidates)} for name, value in values.items()]


def absent() -> dict[str, str]:
    """The metrics that have no value, each with the reason in one line.

    What is missing is looked up now; what failed, failed in the latest call of `score` in this process.
    """
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None:
        return dict.fromkeys(REQUIRED_FILES, "the package pycocoevalcap is not installed")
    if shutil.which("java") is None:
        return dict.fromkeys(REQUIRED_FILES, "there is no java on the PATH")
    reasons = dict(_failures)
    for name, files in REQUIRED_FILES.items():
        lost = [file for file in files if not (_package_folder() / file).is_file()]
        if lost:
            reasons[name] = f"pycocoevalcap lacks {', '.join(lost)}"
    return reasons


def tokenize(text: str) -> list[str]:
    """The words of a caption: lower case, runs of letters, digits and apostrophes; all else parts words and is dropped.

    Each Chinese character and each Japanese syllable is a word of its own. Other scripts that are written without
    spaces, such as Thai, stay in runs. Apostrophes at the ends of a word are quotation marks, and dropped. Text is
    first brought to one Unicode form (NFKC), so that accents and full-width letters match however they were typed.
    Markup is not understood: `<b>dog</b>` is b, dog, b.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    words = (word.strip("'") for word in "".join(map(_space, text)).split())
    return [word for word in words if any(map(str.isalnum, word))]  # an accent alone is no word


@functools.cache
def _space(character: str) -> str:
    """The character as it stands in a word, between spaces if it is a word itself, or a space if it parts words."""
    kind = unicodedata.category(character)[0]  # Letter, Mark (accents, vowel signs), Number, ...
    if kind not in "LMN":
        return "'" if character == "'" else " "
    return f" {character} " if UNSPACED.match(character) else character


def bleu(candidates: list[list[str]], references: list[list[list[str]]], order: int) -> float:
    """BLEU of the whole set, 0..1, n-grams up to `order`, without smoothing (Papineni et al., ACL 2002).

    The brevity penalty uses the reference closest in length, of two equally close ones the shorter.
    """
    from torchmetrics.functional.text import bleu_score

    # torchmetrics takes the first of equally close references: hence sorted, also against an influence of their order.
    sentences = [[" ".join(words) for words in sorted(several, key=len)] for several in references]
    return bleu_score([" ".join(words) for words in candidates], sentences, n_gram=order).item()


def rouge_l(candidates: list[list[str]], references: list[list[list[str]]]) -> float:
    """ROUGE-L, 0..1: F measure of the longest common subsequence (Lin, ACL 2004), mean over images.

    Precision and recall weigh the same (beta = 1), and the reference with the best F measure counts. The COCO
    server differs: beta = 1.2, precision and recall each from the reference that is best for it.
    """
    from torchmetrics.functional.text import rouge_score

    found = rouge_score(
        [" ".join(words) for words in candidates],
        [[" ".join(words) for words in several] for several in references],
        accumulate="best",
        normalizer=str,  # its own would drop all letters but a to z
        tokenizer=str.split,
        rouge_keys="rougeL",
    )
    return found["rougeL_fmeasure"].item()


def cider(candidates: list[list[str]], references: list[list[list[str]]]) -> float:
    """CIDEr-D of pycocoevalcap, 0..10, mean over images (Vedantam et al., CVPR 2015).

    n-grams up to 4, sigma 6, document frequency over the references of this set. Hence the value depends on which
    images are scored together, is 0 for a single image, and stays below 10 for captions of fewer than 4 words.
    """
    from pycocoevalcap.cider.cider import Cider

    if not any(words for several in references for words in several):
        return 0.0  # Cider refuses references without a word
    said = {row: [" ".join(words)] for row, words in enumerate(candidates)}
    meant = {row: [" ".join(words) for words in several] for row, several in enumerate(references)}
    return float(Cider().compute_score(meant, said)[0])


def meteor(candidates: list[list[str]], references: list[list[list[str]]]) -> float:
    """METEOR 1.5 of the whole set, 0..1, English (Denkowski and Lavie, WMT 2014), with the options of pycocoevalcap.

    Of a longer caption only the first METEOR_WORDS words count. Only the files of pycocoevalcap are used: its wrapper
    lets the system choose Java's encoding, and waits for ever once Java has ended early. Raises OSError with what Java
    said in that case.
    """
    process, complaints = _meteor_process()
    assert process.stdout, "started with pipes"
    try:
        counts = [_ask(process, _meteor_line(*pair)) for pair in zip(candidates, references, strict=True)]
        for _ in _ask(process, " ||| ".join(["EVAL", *counts])), *counts[1:]:  # one value per image comes first
            last = process.stdout.readline()
        return float(last)
    except (OSError, ValueError) as error:
        process.kill()
        _meteor_process.cache_clear()
        complaints.seek(0)
        raise OSError(complaints.read(300) or str(error)) from error


@functools.cache
def _meteor_process() -> tuple[subprocess.Popen, IO[str]]:
    """METEOR's Java with the file of its complaints: one for this process, as it takes seconds to start."""
    command = [
        "java",
        "-Dfile.encoding=UTF-8",
        "-Duser.language=en",
        "-Duser.country=US",
        "-Xmx2G",
        "-jar",
        "meteor-1.5.jar",
        "-",
        "-",
        "-stdio",
    ]
    folder, pipe = _package_folder() / "meteor", subprocess.PIPE
    complaints = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (open as long as Java runs)
    process = subprocess.Popen(
        [*command, "-l", "en", "-norm"], cwd=folder, stdin=pipe, stdout=pipe, stderr=complaints, encoding="utf-8"
    )
    atexit.register(process.kill)
    return process, complaints


def _meteor_line(candidate: list[str], references: list[list[str]]) -> str:
    return " ||| ".join(["SCORE", *(" ".join(words[:METEOR_WORDS]) for words in [*references, candidate])])


def _ask(process: subprocess.Popen, line: str) -> str:
    """One line to METEOR, and the line that it answers."""
    assert process.stdin and process.stdout, "started with pipes"
    process.stdin.write(line + "\n")
    process.stdin.flush()
    answer = process.stdout.readline().strip()
    if not answer:
        raise OSError("java ended without an answer")
    return answer


def spice(candidates: list[list[str]], references: list[list[list[str]]]) -> float:
    """SPICE, 0..1, mean over images (Anderson et al., ECCV 2016). Call only when `absent` does not name it.

    Otherwise pycocoevalcap would download the Stanford models. An image in which nothing is said counts 0.
    """
    import numpy as np
    from pycocoevalcap.spice.spice import Spice

    sentences = {image: [" ".join(words) for words in several] for image, several in enumerate(references)}
    said = {image: [" ".join(words)] for image, words in enumerate(candidates)}
    _, scores = Spice().compute_score(sentences, said)
    return float(np.nan_to_num([parts["All"]["f"] for parts in scores]).mean())


def _package_folder() -> Path:
    return package_folder("pycocoevalcap")


def _require_pairs(candidates: list[str], references: list[list[str]]) -> None:
    if len(candidates) != len(references) or not candidates:
        raise ValueError(f"{len(candidates)} captions and references of {len(references)} images: give one for each")
    bare = [position for position, several in enumerate(references) if not several]
    if bare:
        raise ValueError(f"{len(bare)} images have no reference caption, the first at position {bare[0]}")
