"""Tasks of EleutherAI's lm-evaluation-harness, for machines that reach their data."""

import copy

import numpy as np
import pandas as pd

from anbn.masking.evaluation import EvaluationError, check_causal


def lm_eval_tasks(
    language_model, tasks, *, limit=None, batch_size=8, task_folder=None, n_shots=None
):
    """Run tasks of lm-eval on a model as it is, masked or not.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    tasks : list of str
        Names of lm-eval's own tasks, or of those in ``task_folder``.
    limit : int, optional
        Documents of each task; None: all.
    batch_size : int
    task_folder : path-like, optional
        Of task files (YAML) of your own, whose data may be local files.
    n_shots : int, optional
        Examples in front of each question; None: as the task says.

    Returns
    -------
    results : DataFrame
        A row a task and metric: ``task``, ``metric``, ``filter``, ``value``, ``stderr``
        (NaN where lm-eval gives none).

    Raises
    ------
    EvaluationError
        If lm-eval is not installed or does not know a task.
    """
    check_causal(language_model, "lm-eval")
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise EvaluationError(
            f"lm-eval cannot be imported ({error}): it is optional, install it with "
            "pip install 'anbn[lm-eval]' or pip install lm-eval"
        ) from error
    manager = TaskManager(
        include_path=None if task_folder is None else str(task_folder)
    )
    unknown = [name for name in tasks if name not in manager.all_tasks]
    if unknown or not tasks:
        raise EvaluationError(
            f"lm-eval has no task {unknown[0]!r}" if unknown else "tasks is empty"
        )
    found = simple_evaluate(
        model=HFLM(
            pretrained=language_model.model,
            tokenizer=copy.deepcopy(language_model.tokenizer),  # lm-eval changes it
            batch_size=batch_size,
        ),
        tasks=list(tasks),
        limit=limit,
        num_fewshot=n_shots,
        task_manager=manager,
        log_samples=False,
        random_seed=None,  # else it sets the global ones
        numpy_random_seed=None,
        torch_random_seed=None,
    )["results"]
    rows = []
    for task, values in found.items():
        for key, value in values.items():
            metric, _, name = key.partition(",")
            if name and not metric.endswith("_stderr"):
                stderr = values.get(f"{metric}_stderr,{name}")
                stderr = stderr if isinstance(stderr, float) else np.nan  # "N/A"
                rows.append((task, metric, name, float(value), stderr))
    return pd.DataFrame(rows, columns=["task", "metric", "filter", "value", "stderr"])
