"""Text to index terms, for every script.

Words are lower-cased runs of letters and digits. Chinese, Japanese and Korean write without
reliable spaces, so a run of their characters becomes its characters and its overlapping pairs.
"""

import re
import unicodedata

CJK = (  # kana, Han, Hangul: ranges for a character class
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
# Scripts whose words are stemmed by the rules of the language most written in them. The rules need
# only be the same for questions and texts: a Ukrainian word loses its ending by the Russian ones too.
SCRIPTS = {
    "russian": re.compile("[\u0400-\u052f]"),
    "arabic": re.compile("[\u0600-\u06ff\u0750-\u077f]"),
}
_RUNS = re.compile(rf"([{CJK}]+)|([^\W_{CJK}]+)")
_PLAIN = re.compile("[a-z0-9]+")


def words(text: str) -> list[str]:
    """Terms of a text in reading order; compatibility forms are folded (NFKC)."""
    if text.isascii():  # NFKC leaves it as it is
        return _PLAIN.findall(text.lower())
    found: list[str] = []
    for run, word in _RUNS.findall(unicodedata.normalize("NFKC", text).lower()):
        if word:
            found.append(word)
        else:
            found.extend(run)
            found.extend(run[at : at + 2] for at in range(len(run) - 1))
    return found
