"""Draw docs/dag.svg from the compiled pipeline: boxes where POSITIONS says, arrows where artifacts flow.

Run it again after a change of the DAG: python docs/draw_dag.py
"""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT, BOX_WIDTH, BOX_HEIGHT = 1120, 380, 178, 54
POSITIONS = {  # the middle of each box
    "check_inputs": (110, 190),
    "filter_questions": (330, 90),
    "split_passages": (330, 290),
    "ingest_passages": (560, 290),
    "check_answerability": (560, 90),
    "tokenize_pairs": (790, 90),
    "finetune_rag": (790, 210),
    "evaluate_rag": (1010, 290),
    "register_model": (1010, 90),
}
ROUTES = {  # the two arrows that would otherwise cross a box
    ("check_inputs", "register_model"): "M110 163 C110 30 160 26 240 26 L900 26 C980 26 1010 30 1010 63",
    ("filter_questions", "evaluate_rag"): "M330 117 C380 152 480 152 600 152 L870 152 C930 152 960 200 975 263",
}
ON_GPU = {"ingest_passages", "check_answerability", "finetune_rag", "evaluate_rag"}
CAPTIONS = {
    "check_inputs": "values, sources, names",
    "filter_questions": "NQ, SQuAD, JSONL …",
    "split_passages": "≤ 100 words each",
    "ingest_passages": "Feast → Milvus",
    "check_answerability": "is the answer retrieved?",
    "tokenize_pairs": "two tokenizers",
    "finetune_rag": "encoder + generator",
    "evaluate_rag": "before → after",
    "register_model": "champion if better",
}
STYLE = """
  .box { fill: #ffffff; stroke: #3b5b7c; stroke-width: 1.6 }
  .gpu { fill: #e8f1e4; stroke: #3d7a3a }
  .name { font: 600 14px ui-monospace, Menlo, monospace; fill: #1c2733; text-anchor: middle }
  .caption { font: 12px system-ui, sans-serif; fill: #55616d; text-anchor: middle }
  .flow { fill: none; stroke: #8594a3; stroke-width: 1.4 }
"""


MODELS = ("question_encoder", "passage_encoder", "generator")
ASIDE = (
    *MODELS,
    *(f"{part}_fingerprint" for part in MODELS),
    "model_folder",
    "run_key",
    "pod_gpus",
    "pod_memory",
    "pod_cpus",
)
OF_CHECK_INPUTS = "pipelinechannel--check-inputs-"  # of what reaches a group of tasks from outside


def edges() -> list[tuple[str, str]]:
    """Who hands something to whom, as pairs of box names; models' hashes and resources aside."""
    spec = next(yaml.safe_load_all((ROOT / "compiled" / "rag_finetuning.yaml").read_text()))
    found = set()
    for component in spec["components"].values():  # groups of tasks among them, one in another
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            inputs = task.get("inputs", {})
            for source in [*inputs.get("parameters", {}).values(), *inputs.get("artifacts", {}).values()]:
                told = source.get("taskOutputArtifact") or source.get("taskOutputParameter")
                outer = source.get("componentInputParameter", "").removeprefix(OF_CHECK_INPUTS)
                key = told.get("outputParameterKey") if told else outer
                producer = told["producerTask"] if told else "check-inputs"
                edge = (producer.replace("-", "_"), name.replace("-", "_"))
                comes = told or source.get("componentInputParameter", "").startswith(OF_CHECK_INPUTS)
                if comes and key not in ASIDE and set(edge) <= set(POSITIONS):
                    found.add(edge)
    return sorted(found)


def draw() -> str:
    """The whole picture as SVG text."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="The boxes of the pipeline and what flows between them">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#8594a3"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#f6f8fa"/>',
    ]
    parts += [_path(ROUTES.get(edge) or _route(POSITIONS[edge[0]], POSITIONS[edge[1]])) for edge in edges()]
    for name, (x, y) in POSITIONS.items():
        kind = "box gpu" if name in ON_GPU else "box"
        parts.append(
            f'<rect class="{kind}" x="{x - BOX_WIDTH / 2}" y="{y - BOX_HEIGHT / 2}" '
            f'width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="9"/>'
            f'<text class="name" x="{x}" y="{y - 3}">{name}</text>'
            f'<text class="caption" x="{x}" y="{y + 16}">{CAPTIONS[name]}</text>'
        )
    legend = "green: takes a GPU where there is one"
    parts.append(f'<text class="caption" x="{WIDTH / 2}" y="{HEIGHT - 18}">{legend}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _route(start: tuple[int, int], end: tuple[int, int]) -> str:
    (x0, y0), (x1, y1) = start, end
    if x0 == x1:  # one above the other: from edge to edge
        down = 1 if y1 > y0 else -1
        return f"M{x0} {y0 + down * BOX_HEIGHT / 2} L{x1} {y1 - down * BOX_HEIGHT / 2}"
    x0, x1 = x0 + BOX_WIDTH // 2, x1 - BOX_WIDTH // 2
    if y0 == y1 and x1 - x0 > BOX_WIDTH:  # over the boxes between
        bend = y0 - BOX_HEIGHT if y0 < HEIGHT / 2 else y0 + BOX_HEIGHT
        return f"M{x0} {y0} C{x0 + 40} {bend} {x1 - 40} {bend} {x1} {y1}"
    middle = (x0 + x1) / 2
    return f"M{x0} {y0} C{middle} {y0} {middle} {y1} {x1} {y1}"


def _path(route: str) -> str:
    return f'<path class="flow" d="{route}" marker-end="url(#tip)"/>'


if __name__ == "__main__":
    (ROOT / "docs" / "dag.svg").write_text(draw(), encoding="utf-8")
