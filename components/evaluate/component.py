"""Kubeflow component: scores a checkpoint on the test tiles. Kubeflow shows scores, confusion matrices and report."""

from kfp import dsl

from components.common.entrypoints.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    store: dsl.Input[dsl.Dataset],
    weights: dsl.Input[dsl.Model],
    evaluate: str,
    data_md5: str,
    model_sha256: str,
    commit: str,
    workspace: str,
    evaluation: dsl.Output[dsl.Artifact],
    scores: dsl.Output[dsl.Metrics],
    confusion_fused: dsl.Output[dsl.ClassificationMetrics],
    confusion_image_only: dsl.Output[dsl.ClassificationMetrics],
    confusion_dsm_only: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Score the checkpoint on the test tiles with both sensors, the image only and the DSM only.

    Returns the sha256 of `evaluation.json`.
    """
    from pathlib import Path

    from components.common.entrypoints.kubeflow import finite, hand_over, parameters, task
    from components.common.files import digest
    from components.evaluate.config import EvaluateConfig
    from components.evaluate.record import comparable_metrics
    from components.evaluate.step import run

    drawn = {"rgb+dsm": confusion_fused, "rgb": confusion_image_only, "dsm": confusion_dsm_only}
    with task(workspace, commit) as folder:
        config = parameters(EvaluateConfig, "evaluate", evaluate)
        found = run(config, folder / "store", Path(weights.path), folder / "reports").evaluation
        hand_over(folder / "reports", {"evaluation.json": evaluation.path, "report.html": report.path})
        for name, value in finite(comparable_metrics(found)).items():
            scores.log_metric(name, value)
        for condition, matrix in found.confusion[found.protocol.ground_truth].items():
            drawn[condition].log_confusion_matrix(list(found.protocol.classes), matrix)
        return digest(Path(evaluation.path))
