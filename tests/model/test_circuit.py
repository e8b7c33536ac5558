import pytest
from circuits import NINE_CELLS, TWO_CELLS

from pyloric_db.errors import ConfigError
from pyloric_db.model.circuit import PRINZ2004, Circuit, GapJunction, Source, Synapse
from pyloric_db.vocabulary import CELLS, SOURCES, SYNAPSES


def test_preset_has_the_names_of_the_vocabulary():
    assert PRINZ2004.cells == CELLS
    assert PRINZ2004.source_names == SOURCES
    assert PRINZ2004.synapse_names == SYNAPSES
    assert {s.name: s.transmitter for s in PRINZ2004.sources} == {
        "ab": "glutamate", "pd": "acetylcholine", "lp": "glutamate", "py": "glutamate",
    }  # fmt: skip


def test_gap_junctions_come_after_the_synapses():
    assert TWO_CELLS.synapse_names == ("a_glu_b", "b_ach_a", "gap_a_b")
    assert len(NINE_CELLS.cells) == 9
    assert len(set(NINE_CELLS.synapse_names)) == len(NINE_CELLS.synapse_names)


A = Source("a", "a", "glutamate")


def test_lists_are_as_good_as_tuples():
    assert Circuit(cells=["a"], sources=[A]) == Circuit(cells=("a",), sources=(A,))


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"cells": ()}, "at least one cell"),
        ({"cells": "ab"}, "cells of a circuit must be a list, not 'ab'"),
        ({"cells": ("a", "b", "a")}, "cell 'a' is listed twice"),
        ({"cells": ("a",), "sources": (A, A)}, "synaptic source 'a' is listed twice"),
        (
            {"cells": ("a", "b"), "sources": (A,), "synapses": (Synapse("a", "b"),) * 2},
            "synapse 'a_b' is listed twice",
        ),
        (
            {"cells": ("lp", "py"), "sources": (Source("x", "pl", "glutamate"),)},
            "cell of synaptic source 'x' is 'pl'.*lp",
        ),
        (
            {"cells": ("a",), "sources": (Source("x", "a", "glutamat"),)},
            "transmitter of source 'x' is 'glutamat'.*glutamate",
        ),
        (
            {"cells": ("a", "b"), "sources": (A,), "synapses": (Synapse("c", "b"),)},
            "source of synapse 'c_b' is 'c'",
        ),
        (
            {"cells": ("a", "b"), "sources": (A,), "synapses": (Synapse("a", "c"),)},
            "target of synapse 'a_c' is 'c'",
        ),
        ({"cells": ("a", "b"), "gap_junctions": (GapJunction("a", "c"),)}, "cell of gap junction"),
        ({"cells": ("a", "b"), "gap_junctions": (GapJunction("a", "a"),)}, "to itself"),
        (
            {"cells": ("a", "b"), "gap_junctions": (GapJunction("a", "b"), GapJunction("b", "a"))},
            "gap junction 'gap_a_b' is listed twice",
        ),
    ],
)
def test_invalid_circuits_are_refused(parts, text):
    with pytest.raises(ConfigError, match=text):
        Circuit(**parts)
