"""Words that were once used, and what is said now: one thing has one name, and it is the field's."""

import re

OLD = {  # what was once said: what is said now
    r"wholly right|right_all": "exact match",
    r"told rightly|(told|tell) from (the )?real": "correctly classified, detected",
    r"hurt least|remedy": "degrades least, mitigation",
    r"(is|be) not decided": "inconclusive",
    r"other real images": "unseen real images, the real control",
    r"taken away": "removed",
    r"varied prompts|prompts? varied": "diverse prompts",
    r"container audit": "file-format leakage check",
    r"hit[ _-]rates?|false[ _-]alarm": "true-positive rate, false-positive rate",
    r"shifted (test )?(set|image)s?": "out-of-distribution (OOD) test sets",
    r"rehears\w*": "preflight",
    r"redraw\w*": "safety retries",
    r"adopt\w*": "import",
    r"outputs/published": "outputs/reference",
    r"[a-z]*colour\w*|neighbour\w*|grey\w*|centre[ds]?|licence": "color, neighbor, gray, center, license",
    r"optimis(e|ed|er|ers|ing|ation)|(normal|summar|token|recogn|initial)is(e|ed|es|er|ers|ing|ation)": "-ize",
}
FORBIDDEN = re.compile(rf"\b({'|'.join(OLD)})\b", re.IGNORECASE)
