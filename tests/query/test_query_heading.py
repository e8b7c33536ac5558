"""What the head of a page says of a database."""

import pytest
import synthetic

from pyloric_db.query.heading import heading

OF = "All 48 circuits"


@pytest.mark.parametrize(
    "selection, says",
    [
        ({}, OF),
        ({"sample": 2000, "seed": 1}, f"A random sample of 2,000 (seed 1) of: {OF}"),
        ({"limit": 60}, f"The first 60 of: {OF}"),
        ({"ids": [[0, 5], [11, 24]], "of": 48}, f"Circuits 0:5, 11:24 of: {OF}"),
        (
            {"ids": [[k, k + 1] for k in range(0, 10, 2)], "of": 48},
            f"Circuits 0:1, 2:3, 4:5 and 2 more of: {OF}",
        ),
        (
            {"sample": 20, "seed": 0, "limit": 7, "ids": [[0, 24]], "of": 48},
            f"Circuits 0:24 of the first 7 of a random sample of 20 (seed 0) of: {OF}",
        ),
        ({"ids": 7, "sample": "x"}, f"Circuits 7 of a random sample of x (seed 0) of: {OF}"),
    ],
)
def test_the_selection_stands_before_the_description_of_the_whole(selection, says):
    manifest = synthetic.make_manifest(recipe={"description": OF}, selection=selection)
    assert heading(manifest) == says


def test_a_recipe_without_a_description():
    assert heading(synthetic.make_manifest(recipe={})) == ""
    assert heading(synthetic.make_manifest(recipe={}, selection={"limit": 3})) == "The first 3"
