"""Published results, reached on real data."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from pyrec import kernels, read_interactions
from pyrec.data import Split
from pyrec.evaluation import evaluate
from pyrec.metrics import summarize
from pyrec.models import EASE, ADMM_Slim

pytestmark = pytest.mark.data


@pytest.fixture
def measured_on_ncf(real_data):
    """A function that trains on the split of He et al. 2017 and measures.

    Each user's last item is ranked among the 99 negatives that the split comes with.
    """
    data = read_interactions(real_data / "ml-1m" / "ncf" / "train.parquet")
    test = pq.read_table(real_data / "ml-1m" / "ncf" / "test.parquet").to_pydict()
    place = {item: number for number, item in enumerate(data.items)}
    np.testing.assert_array_equal(test["user_id"], data.users)

    def lists(items):
        # An item that nobody has in training is in no model: it ranks behind all others.
        known = [(u, place[i]) for u, own in enumerate(items) for i in own if i in place]
        rows, columns = np.array(known).T
        return sp.csr_array(
            (np.ones(len(rows), np.float32), (rows, columns)), shape=data.matrix.shape
        )

    positives = lists([[item] for item in test["item_id"]])
    among = lists([[p, *n] for p, n in zip(test["item_id"], test["negatives"], strict=True)])

    def measured(model, names):
        model.train(data)
        best = model.recommend(data, 10, allow=among, remove_seen=False)
        values = kernels.ranking(best.items, positives, names)
        return {name: np.nansum(v) / data.n_users for name, v in values.items()}

    return measured


def test_ease_on_the_ncf_split_of_movielens_1m(measured_on_ncf):
    """Ferrari Dacrema, Boglio, Cremonesi & Jannach 2021 (TOIS), supplement."""
    published = {"hit@1": 0.2225, "hit@5": 0.5629, "hit@10": 0.7192, "ndcg@10": 0.4494}
    means = measured_on_ncf(EASE(lam=1320), list(published))
    assert means == pytest.approx(published, abs=0.0006)


def test_slim_on_the_ncf_split_of_movielens_1m(measured_on_ncf):
    """The same supplement, SLIM with an elastic net; the penalties are ours."""
    published = {"hit@10": 0.7162, "ndcg@10": 0.4468}
    means = measured_on_ncf(ADMM_Slim(lambda1=2, lambda2=500), list(published))
    assert means == pytest.approx(published, abs=0.002)


def test_ease_on_the_cfgan_split_of_movielens_100k(real_data):
    """The split of Chae, Kang, Kim & Lee 2018, ratings taken as 1, all unseen items ranked."""
    train, test = (
        read_interactions(real_data / "ml-100k-cfgan" / f"{part}.txt") for part in ("train", "test")
    )
    split = Split.from_parts(train, test)
    model = EASE(lam=400)
    model.train(split.train)
    names = ["precision@5", "precision@20", "full_recall@5", "full_recall@20", "ndcg@5", "ndcg@20"]
    means = {
        k: v.mean
        for k, v in summarize(evaluate(model, (split.test_tr, split.test_te), names)).items()
    }
    expected = dict(zip(names, [0.446, 0.293, 0.155, 0.353, 0.481, 0.437], strict=True))
    assert means == pytest.approx(expected, abs=0.002)


def test_ease_on_the_svae_split_of_movielens_1m(real_data):
    """Held-out users, whole rankings; order in time is ignored."""
    parts = {
        name: read_interactions(real_data / "ml-1m" / "svae" / f"{name}.parquet")
        for name in ("train", "test_tr", "test_te")
    }
    split = Split.from_parts(parts["train"], parts["test_te"], parts["test_tr"])
    model = EASE(lam=300)
    model.train(split.train)
    names = ["ndcg@100", "full_recall@100"]
    means = {
        k: v.mean
        for k, v in summarize(evaluate(model, (split.test_tr, split.test_te), names)).items()
    }
    assert means == pytest.approx({"ndcg@100": 0.2316, "full_recall@100": 0.4146}, abs=0.001)
