import pytest

from ragtune.errors import ModelError
from ragtune.models.prompt import check_prompt


@pytest.mark.parametrize("prompt", ["{title} / {text} // {question}", "{question} {title}: {text}"])
def test_the_question_may_come_first_or_last(prompt):
    check_prompt(prompt)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("{title} {text}", "{question} must be in it exactly once"),
        ("{title} {text} {text} {question}", "{text} must be in it exactly once"),
        ("{title} {question} {text}", "must not be between"),
    ],
)
def test_any_other_prompt_is_refused(prompt, message):
    with pytest.raises(ModelError, match=message):
        check_prompt(prompt)
