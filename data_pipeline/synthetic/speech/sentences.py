"""What the drawn people say: sentences from a small grammar, rich in lips closing and jaws opening."""

from __future__ import annotations

import numpy as np


def _words(listed: str) -> list[str]:
    """A list from words and phrases that semicolons separate."""
    return [" ".join(word.split()) for word in listed.split(";")]


OPENERS = _words("""
well then; by the way; on Monday; last October; before breakfast; every morning; after a while; believe me;
to be fair; in April; my friend; oh; sure enough; above all; for once; at the harbour; up north; honestly
""")
DETERMINERS = _words("the; my; our; that; every; some; another; her; his; your; this; one")
ADJECTIVES = _words("""
warm; big; purple; famous; broken; quiet; marble; yellow; empty; happy; fabulous; smooth; brave; wooden;
shiny; odd; enormous; thirsty; humble; polar; velvet; awful; jolly; noisy; pale; bumpy; golden; thoughtful
""")
NOUNS = _words("""
farmer; mother; piper; baby; goalkeeper; village; apple pie; umbrella; postman; bobcat; orchestra; museum;
lighthouse; puppy; mountain; carpenter; father; vampire; thief; camel; bishop; zebra; butterfly; mechanic;
pumpkin; sailor; chimney; elephant; teapot; judge; hammer; bubble; wolf; mayor; boat; champion; hippo
""")
VERBS = _words("""
bought; painted; remembered; followed; borrowed; moved; chewed; baked; forgot; polished; admired; pushed;
found; measured; shaved; bumped; wrapped; hummed about; argued with; asked for; opened; woke; grabbed;
climbed; mapped; washed; whispered to; laughed at; jumped over; photographed; mimicked; warmed
""")
PLACES = _words("""
behind the barn; in the bathroom; near my office; above the bar; at the opera; under a palm tree;
from the top of the map; by the river mouth; without a problem; before the storm; in Panama;
around the old farm; between two pubs; along the path; with both hands; in the middle of February
""")
QUESTIONS = _words("""
why would; when did; how could; where should; who knew; what if; do you mean
""")


def compose(random: np.random.Generator, sentences: int) -> str:
    """A text of `sentences` sentences with commas where a speaker pauses; no two draws are alike in practice."""
    return " ".join(_sentence(random) for _ in range(sentences))


def _sentence(random: np.random.Generator) -> str:
    def pick(words: list[str]) -> str:
        return words[int(random.integers(len(words)))]

    def thing() -> str:
        adjective = f"{pick(ADJECTIVES)} " if random.random() < 0.7 else ""
        return f"{pick(DETERMINERS)} {adjective}{pick(NOUNS)}"

    end = "."
    said = f"{thing()} {pick(VERBS)} {thing()}"
    if random.random() < 0.6:
        said += f" {pick(PLACES)}"
    if random.random() < 0.4:
        said = f"{pick(OPENERS)}, {said}"
    elif random.random() < 0.2:
        said, end = f"{pick(QUESTIONS)} {thing()}, {thing()} and {thing()} {pick(PLACES)}", "?"
    if random.random() < 0.35:
        said += f", and {thing()} {pick(VERBS)} {thing()}"
    return said[0].upper() + said[1:] + end
