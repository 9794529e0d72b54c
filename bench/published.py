"""What papers report, and the table of our figures beside theirs."""

from __future__ import annotations

import numpy as np

Result = dict[str, float]

# By data and protocol and by model: where the figures are from, and the figures.
PUBLISHED: dict[str, dict[str, tuple[str, Result]]] = {
    "ML-1M, split of the NCF paper": {
        "EASE": (
            "Ferrari Dacrema et al. 2021",
            {"hit@1": 0.2225, "hit@5": 0.5629, "hit@10": 0.7192, "ndcg@10": 0.4494},
        ),
        "ADMM_Slim": (
            "their SLIM with an elastic net, the same",
            {"hit@10": 0.7162, "ndcg@10": 0.4468},
        ),
        "MultiDAE": ("Liang et al. 2018", {"hit@10": 0.722, "ndcg@10": 0.446}),
    },
    "ML-100K, split of the CFGAN paper": {
        "EASE": (
            "not published; computed independently",
            {"precision@5": 0.446, "precision@20": 0.293, "ndcg@5": 0.481, "ndcg@20": 0.437},
        ),
        "CFGAN": (
            "Chae et al. 2018, item-based",
            {
                "precision@5": 0.444,
                "precision@20": 0.294,
                "ndcg@5": 0.476,
                "ndcg@20": 0.433,
                "mrr@5": 0.681,
            },
        ),
    },
    "ML-1M, split of the SVAE paper": {
        "EASE": (
            "not published; computed independently",
            {"ndcg@100": 0.2316, "full_recall@100": 0.4146},
        ),
        "SVAE": (
            "the authors' notebook (Sachdeva et al. 2019)",
            {
                "ndcg@100": 0.2979,
                "full_recall@100": 0.4992,
                "ndcg@10": 0.1714,
                "full_recall@10": 0.1302,
            },
        ),
    },
}


def report(protocol: str, runs: list[dict[str, Result]]) -> None:
    """Print ours, theirs and the difference of every model and metric; a run a seed."""
    published = PUBLISHED.get(protocol, {})
    print(f"\n{protocol}; mean ± standard deviation of {len(runs)} seeds\n")
    print("| model | metric | ours | published | difference | source |\n|---|---|---|---|---|---|")
    for model, first in runs[0].items():
        source, figures = published.get(model, ("", {}))
        for metric in first:
            values = np.array([run[model][metric] for run in runs])
            cells = [model, metric, f"{values.mean():.4f}"]
            if len(values) > 1:
                cells[-1] += f" ± {values.std(ddof=1):.4f}"
            theirs = figures.get(metric)
            if theirs is None:
                cells += ["", "", ""]
            else:
                cells += [f"{theirs}", f"{values.mean() - theirs:+.4f}", source]
            print(f"| {' | '.join(cells)} |", flush=True)
