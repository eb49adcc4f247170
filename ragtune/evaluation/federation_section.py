"""The report's section on a federation: losses and metrics of each round, of all sites together and of each."""

from collections.abc import Mapping
from html import escape
from typing import Any

from ragtune.evaluation.charts import percent

_COLUMNS = {  # of a site's metrics in `federation.json`, in this order; those that no site has are left out
    "train_loss": "training loss",
    "own_loss": "loss, its own",
    "own_em": "EM, its own",
    "loss": "loss, averaged",
    "em": "EM, averaged",
    "recall@1": "recall@1, averaged",
}


def federation_section(federation: Mapping[str, Any]) -> str:
    """The section as HTML; "" where there was no federation.

    Args:
        federation: what `ragtune.federation.outcome.write_outcome` has left: `round`, that of the model, and `rounds`.
    """
    if not federation:
        return ""
    rounds = federation["rounds"]
    metrics = [entry["metrics"] for entry in rounds] + [own for entry in rounds for own in entry["sites"].values()]
    shown = {name: label for name, label in _COLUMNS.items() if any(name in each for each in metrics)}
    head = "".join(f"<th scope=col>{label}</th>" for label in ("", *shown.values()))
    body = "".join(_round(entry, federation["round"], shown) for entry in rounds)
    note = (
        "Each site trains on its own questions; its weights are averaged with those of the others, and the average is "
        "measured on the validation questions of each. <i>Its own</i> are the site's weights before the average. The "
        f"model is that of round {federation['round']}."
    )
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{body}</table></div>'
    heading = "<h2>The federation, by rounds and sites</h2>"
    return f'<section id="federation">{heading}<p class="note">{note}</p>{table}</section>'


def _round(entry: Mapping[str, Any], best: int, shown: Mapping[str, str]) -> str:
    number = entry["round"]
    label = f"Round {number}" + (": the base model" if number == 0 else "") + (", kept" if number == best else "")
    rows = [f"<tr><th class=group colspan={len(shown) + 1} scope=rowgroup>{label}</th></tr>"]
    rows += [_row(site, metrics, shown) for site, metrics in entry["sites"].items()]
    rows += [
        f"<tr><th scope=row>{escape(site)}</th><td class=down colspan={len(shown)}>{escape(reason)}</td></tr>"
        for site, reason in entry["failed"].items()
    ]
    rows.append(_row("all sites", entry["metrics"], shown))
    return f"<tbody>{''.join(rows)}</tbody>"


def _row(name: str, metrics: Mapping[str, float], shown: Mapping[str, str]) -> str:
    cells = "".join(f"<td>{_shown(column, metrics.get(column))}</td>" for column in shown)
    return f"<tr><th scope=row>{escape(name)}</th>{cells}</tr>"


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if name.endswith("loss") else percent(value)
