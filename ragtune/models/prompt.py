"""The generator's input as a pattern: the fields that must be in it."""

from ragtune.errors import ModelError


def check_prompt(prompt: str) -> None:
    """Raises ModelError unless {title}, {text} and {question} are in it once, the question first or last."""
    for field in ("{title}", "{text}", "{question}"):
        if prompt.count(field) != 1:
            raise ModelError(f'prompt "{prompt}": {field} must be in it exactly once')
    title, question, text = (prompt.index(field) for field in ("{title}", "{question}", "{text}"))
    if min(title, text) < question < max(title, text):
        raise ModelError(f'prompt "{prompt}": {{question}} must not be between {{title}} and {{text}}')
