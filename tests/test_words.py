"""Comments, docstrings and messages of the package avoid turns that are hard to read."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rs4a"
#: Turns of phrase, and the words in their place.
TURNS = {
    r"\b(?:a|an|one) (?:row|entry|line|page|column|vote|point|class|name) an? \w+": "per",
    r"\bgo(?:es)? on\b": "continue",
    r"\b(?:does|do|did) not count\b": "is ignored",
    r"\b(?:whoever|whomever|by whom)\b": "the person or the code by name",
    r"\b(?:whatever|wherever)\b": "for every, or at every place",
}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_turns_of_phrase(path):
    text = re.sub(r"\s*\n\s*(?:#:? )?", " ", path.read_text())  # sentences in one line
    found = {
        match[0]: words
        for turn, words in TURNS.items()
        for match in re.finditer(turn, text)
    }
    assert not found
