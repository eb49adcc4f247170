"""The generator's input as a pattern: the fields that must be in it, and what a chat template puts around it."""

from typing import TYPE_CHECKING

from ragtune.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT_TEMPLATES = ("auto", "on", "off")
_MESSAGE = "ragtune-message"
_DATE = "26 Jul 2024"  # the default of Llama's own template, which says today's where it is given none


def check_prompt(prompt: str) -> None:
    """Raises ModelError unless {title}, {text} and {question} are in it once, the question first or last."""
    for field in ("{title}", "{text}", "{question}"):
        if prompt.count(field) != 1:
            raise ModelError(f'prompt "{prompt}": {field} must be in it exactly once')
    title, question, text = (prompt.index(field) for field in ("{title}", "{question}", "{text}"))
    if min(title, text) < question < max(title, text):
        raise ModelError(f'prompt "{prompt}": {{question}} must not be between {{title}} and {{text}}')


def chat_around(tokenizer: "PreTrainedTokenizerBase", setting: str) -> tuple[str, str] | None:
    """Text that the tokenizer's chat template puts before and behind a user's message, up to where the reply begins.

    Args:
        tokenizer: a decoder-only generator's.
        setting: of `CHAT_TEMPLATES`.

    Returns:
        None for "off", and for "auto" where the tokenizer has no template.

    Raises:
        ModelError: it has none for "on", or the template fails or does not say the message once.
    """
    name = tokenizer.name_or_path or type(tokenizer).__name__
    if setting == "off" or (setting == "auto" and not tokenizer.chat_template):
        return None
    if not tokenizer.chat_template:
        raise ModelError(
            f"chat_template=on: the tokenizer of {name} has no chat template; give off, or auto, which takes the "
            "prompt as it is where there is none"
        )
    message = [{"role": "user", "content": _MESSAGE}]
    try:
        whole = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, date_string=_DATE)
    except Exception as error:  # whatever a template raises, or jinja
        raise ModelError(f"{name}: its chat template fails ({error}); chat_template=off does without") from error
    before, found, behind = str(whole).partition(_MESSAGE)
    if not found or _MESSAGE in behind:
        raise ModelError(f"{name}: its chat template does not say the message once; chat_template=off does without")
    return before, behind
