"""Independent groups of people: who shares a source, a copy of a clip, or a face is in one group.

Shape suffixes: n clips, P people, G groups, E edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table.columns import texts

NOTHING = -1  # in the place of a missing value


def of_people(
    person_n: np.ndarray, people: Sequence[str], values: Iterable[np.ndarray]
) -> tuple[np.ndarray, list[str]]:
    """Group of every person, (P,), and the groups' names: people who share a value, directly or through others.

    `values` are numbers of each clip, one array a column, in which equal ones join people and NOTHING joins none. A
    group has the name of its first member in order of names.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = [_edges(person_n, value_n) for value_n in values]
    one_E, other_E = np.concatenate(edges, axis=1) if edges else np.zeros((2, 0), np.int64)
    graph = coo_matrix((np.ones(len(one_E), np.int8), (one_E, other_E)), shape=(len(people), len(people)))
    count, group_P = connected_components(graph, directed=False)
    names = [""] * count
    for name, group in zip(people, group_P.tolist()):
        if not names[group] or name < names[group]:
            names[group] = name
    return group_P, names


def _edges(person_n: np.ndarray, value_n: np.ndarray) -> np.ndarray:
    """Pairs of different people who have a value in common, (2, E); enough of them to join all who have it."""
    there_n = value_n != NOTHING
    value_n, person_n = value_n[there_n], person_n[there_n]
    order_n = np.argsort(value_n, kind="stable")
    value_n, person_n = value_n[order_n], person_n[order_n].astype(np.int64)
    joined_n = (value_n[1:] == value_n[:-1]) & (person_n[1:] != person_n[:-1])
    return np.unique(np.stack([person_n[:-1][joined_n], person_n[1:][joined_n]]), axis=1)


def values_of(manifest: Manifest, name: str) -> np.ndarray:
    """A column of texts as a number of 62 bits each, the same in this process only; NOTHING where it is missing."""
    pieces = []
    for batch in manifest.batches([name]):
        for chunk in batch[name].chunks:
            distinct, index_n = texts(chunk if hasattr(chunk, "dictionary") else chunk.dictionary_encode())
            numbers = np.array([hash(text) >> 2 & (1 << 61) - 1 if text else NOTHING for text in distinct], np.int64)
            pieces.append(numbers[index_n])
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)


def groups(people_and_sources: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Group of every person, by name, from pairs of person and source. See `of_people`."""
    pairs = list(people_and_sources)
    people, sources = ({name: n for n, name in enumerate(dict.fromkeys(names))} for names in zip(*pairs))
    person_n = np.array([people[person] for person, _ in pairs])
    source_n = np.array([sources[source] for _, source in pairs])
    group_P, names = of_people(person_n, list(people), [source_n])
    return {person: names[group] for person, group in zip(people, group_P.tolist())}
