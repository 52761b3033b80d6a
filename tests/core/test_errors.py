from __future__ import annotations

import inspect

from motoric.core import errors


def test_every_error_is_in_the_tree_and_has_a_status_and_kind_of_its_own() -> None:
    classes = [
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, errors.MotoricError)
    ]
    assert len({found.kind for found in classes}) == len(classes)
    for found in classes:
        assert errors.__doc__ is not None
        assert found.__name__ in errors.__doc__
        problem = found("what").problem("/x")
        assert problem["status"] == found.status
        assert problem["detail"] == "what"
        assert problem["instance"] == "/x"


def test_users_errors_exit_with_2_and_say_4xx() -> None:
    assert errors.UserError.exit_code == errors.RecipeError.exit_code == 2
    assert errors.PlatformError.exit_code == 1
    assert 400 <= errors.InputError.status < 500 <= errors.PlatformError.status
