"""What papers report, and the table of our figures beside theirs."""

from __future__ import annotations

import numpy as np

Result = dict[str, float]

# By data and protocol, model and metric.
PUBLISHED: dict[str, dict[str, Result]] = {
    "ML-1M, split of the NCF paper": {
        # Ferrari Dacrema et al. 2021
        "EASE": {"hit@1": 0.2225, "hit@5": 0.5629, "hit@10": 0.7192, "ndcg@10": 0.4494},
        # Their SLIM with an elastic net.
        "ADMM_Slim": {"hit@10": 0.7162, "ndcg@10": 0.4468},
        # Liang et al. 2018
        "MultiDAE": {"hit@10": 0.722, "ndcg@10": 0.446},
    },
    "ML-100K, split of the CFGAN paper": {
        # Computed independently.
        "EASE": {"precision@5": 0.446, "precision@20": 0.293, "ndcg@5": 0.481, "ndcg@20": 0.437},
        # Chae et al. 2018, item-based with zero reconstruction and partial masking
        "CFGAN": {
            "precision@5": 0.444,
            "precision@20": 0.294,
            "ndcg@5": 0.476,
            "ndcg@20": 0.433,
            "mrr@5": 0.681,
        },
    },
    "ML-1M, split of the SVAE paper": {
        # Computed independently.
        "EASE": {"ndcg@100": 0.2316, "full_recall@100": 0.4146},
        # The authors' notebook (Sachdeva et al. 2019)
        "SVAE": {
            "ndcg@100": 0.2979,
            "full_recall@100": 0.4992,
            "ndcg@10": 0.1714,
            "full_recall@10": 0.1302,
        },
    },
}


def report(protocol: str, runs: list[dict[str, Result]]) -> None:
    """Print ours, theirs and the difference of every model and metric; a run a seed."""
    published = PUBLISHED.get(protocol, {})
    print(f"\n{protocol}; mean ± standard deviation of {len(runs)} seeds\n")
    print("| model | metric | ours | published | difference |\n|---|---|---|---|---|")
    for model, first in runs[0].items():
        for metric in first:
            values = np.array([run[model][metric] for run in runs])
            ours = f"{values.mean():.4f}"
            if len(values) > 1:
                ours += f" ± {values.std(ddof=1):.4f}"
            theirs = published.get(model, {}).get(metric)
            beside = ("", "") if theirs is None else (f"{theirs}", f"{values.mean() - theirs:+.4f}")
            print(f"| {model} | {metric} | {ours} | {beside[0]} | {beside[1]} |", flush=True)
