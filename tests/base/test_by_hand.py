"""A notebook that is run by hand takes no value of another type than it declares."""

import pytest
from contamination.base import by_hand

VALUES = {int: 3, float: 0.5, str: "pool", list: [0, 1], dict: {"a": 1}, bool: True}


@pytest.mark.parametrize("declared", VALUES)
@pytest.mark.parametrize("given", VALUES)
def test_a_value_of_another_type_is_refused_in_one_line(declared, given):
    fits = declared is given or (declared, given) == (float, int)
    if fits:
        return by_hand._require_type("ratio", VALUES[given], declared)
    with pytest.raises(ValueError, match=f"parameter ratio is .* takes the type {declared.__name__}") as problem:
        by_hand._require_type("ratio", VALUES[given], declared)
    assert "\n" not in str(problem.value)


def test_a_list_that_papermill_took_for_a_text_says_how_to_give_it():
    with pytest.raises(ValueError, match=r"parameter seeds is '\[0, 1\]', of type str.* after -y"):
        by_hand._require_type("seeds", "[0, 1]", list)
