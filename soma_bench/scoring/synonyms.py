"""Names of lung diagnoses that mean the same, as a small table of this project's own."""

from __future__ import annotations

import re

_QUALIFIERS = frozenset(
    (
        *("probable", "probably", "likely", "suspected", "possible", "presumed", "primary"),
        *("the", "of", "in", "left", "right", "bilateral"),
        *("upper", "middle", "lower", "lobe", "lingula"),
    )
)
_WORDS = {
    "pulmonary": "lung",
    "lungs": "lung",
    "tumour": "tumor",
    "tumours": "tumor",
    "tumors": "tumor",
    "carcinoma": "cancer",
    "metastatic": "metastasis",
    "metastases": "metastasis",
    "nodules": "nodule",
    "cysts": "cyst",
    "effusions": "effusion",
    "nonsmall": "non small",
    "haematoma": "hematoma",
    "oedema": "edema",
    "thromboembolism": "embolism",
    "emboli": "embolism",
    "granulomas": "granuloma",
    "granulomata": "granuloma",
}
"""Single words that are compared as another one."""

_SAME = (
    ("non small cell lung cancer", "nsclc"),
    ("small cell lung cancer", "sclc", "oat cell cancer"),
    ("squamous cell lung cancer", "squamous cell cancer", "epidermoid cancer"),
    ("lung adenocarcinoma", "adenocarcinoma"),
    ("lung cancer", "bronchogenic cancer", "bronchial cancer"),
    ("lung metastasis", "metastasis", "metastatic lung disease", "metastatic disease"),
    ("lung tuberculosis", "tuberculosis", "tb", "lung tb"),
    ("solitary lung nodule", "lung nodule", "spn", "coin lesion"),
    ("lung embolism", "pe"),
    ("lung abscess", "abscess"),
    ("lung hamartoma", "hamartoma", "chondroid hamartoma"),
    (
        "carcinoid",
        "carcinoid tumor",
        "lung carcinoid",
        "bronchial carcinoid",
        "lung carcinoid tumor",
    ),
    ("atelectasis", "lung collapse", "lung atelectasis"),
    ("idiopathic lung fibrosis", "ipf"),
    ("chronic obstructive lung disease", "copd"),
    ("sarcoidosis", "lung sarcoidosis", "sarcoid"),
    ("calcified granuloma", "healed granuloma", "old granuloma"),
    ("pleural effusion", "effusion"),
    ("community acquired pneumonia", "cap"),
)


def bare_name(name: str) -> frozenset[str]:
    """The words of a diagnosis without case, punctuation, order, spelling, qualifiers and places.

    Names of one line of the table give the same words.

    >>> bare_name("Probable NSCLC") == bare_name("Non-small cell carcinoma of the lung")
    True
    """
    words = _plain(name)
    return _CANONICAL.get(words, words)


def _plain(name: str) -> frozenset[str]:
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    common = " ".join(_WORDS.get(word, word) for word in words).split()
    return frozenset(common) - _QUALIFIERS


_CANONICAL = {_plain(name): _plain(names[0]) for names in _SAME for name in names}
