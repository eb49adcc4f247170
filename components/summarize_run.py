from kfp import dsl

from components import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def summarize_run(status: dsl.PipelineTaskFinalStatus, summary: dsl.Output[dsl.Markdown], run_id: str):
    """Tell how the run ended, whatever its end: its boxes, its metrics, or the box that failed and why."""
    from ragtune.files import atomic_file
    from ragtune.kubeflow.run_summary import summarize

    text = summarize(status.state, run_id, summary.path)
    print(text)
    with atomic_file(summary.path) as stream:
        stream.write(text)
