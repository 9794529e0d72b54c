"""One contract over all models, then what each adds."""

import numpy as np
import pandas as pd
import pytest
import reference
import scipy.sparse as sp
import torch

import pyrec
from pyrec import kernels, models, nets
from pyrec.data import Histories, Interactions
from pyrec.kernels.tensors import Csr
from pyrec.models import closed_form

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    # Matrices are all that this contract has for SVAE; tests/test_svae.py has sequences.
    pytest.mark.filterwarnings("ignore:.*order:UserWarning"),
]

USERS, ITEMS = 60, 40

# A new model of each class, for a catalogue of `n` items and, of item-based ones, `users` users.
MAKERS = {
    "EASE": lambda n: models.EASE(1.0),
    "ADMM_Slim": lambda n: models.ADMM_Slim(0.1, 1.0),
    "ADMM_Slim (admm)": lambda n: models.ADMM_Slim(0.1, 1.0, 5.0, l1_penalty=False),
    "ADMM_Slim (negative)": lambda n: models.ADMM_Slim(0.1, 1.0, nn_constr=False, item_bias=True),
    "ADMM_Slim (closed)": lambda n: models.ADMM_Slim(
        0, 1.0, nn_constr=False, l1_penalty=False, item_bias=True
    ),
    "Popularity": lambda n: models.Popularity(),
    "AETrainer": lambda n: models.AETrainer(nets.MultiDAE_net([8, n]), 0.01),
    "VAE": lambda n: models.VAE(nets.VAE_net([8, 16, n]), 0.01),
    "MultiDAE": lambda n: models.MultiDAE(nets.MultiDAE_net([8, 16, n]), 0.01, 0.01),
    "MultiVAE": lambda n: models.MultiVAE(nets.MultiVAE_net([8, 16, n]), 0.2, 5, 0.01),
    "StandardVAE": lambda n: models.StandardVAE(USERS, n, 16, 8),
    "CMultiVAE": lambda n: models.CMultiVAE(nets.CMultiVAE_net(3, [8, 16, n]), 0.2, 5, 0.01),
    "CFGAN": lambda n: cfgan(n),
    "CFGAN (item)": lambda n, users=USERS: cfgan(users, item_based=True),
    "SVAE": lambda n: models.SVAE(
        nets.SVAE_net(n, 8, 16, [8, 16, n], [16, 16, 8]), 0.2, 5, 0.01, pred_type="postfix"
    ),
}


def cfgan(width, **options):
    generator, discriminator = (
        nets.CFGAN_G_net([width, 16, width]),
        nets.CFGAN_D_net([2 * width, 8, 1]),
    )
    return models.CFGAN(generator, discriminator, 1.0, learning_rate=0.01, **options)


ABSTRACT = {"RecSysModel", "TorchNNTrainer"}
LINEAR = [name for name in MAKERS if name.startswith(("ADMM", "EASE", "Pop"))]
NETWORKS = [name for name in MAKERS if name not in LINEAR]
# Batches that networks train and score with; other networks than pyrec's get dense ones. SVAE's are
# sequences.
CASES = [*LINEAR, *NETWORKS, *(f"{name}, dense batches" for name in NETWORKS if name != "SVAE")]
# Epochs until the withheld item comes first.
EPOCHS = {"StandardVAE": 50, "CFGAN": 40, "CFGAN (item)": 40}


def is_network(case):
    return case not in LINEAR


def made(case, n_items=ITEMS, users=USERS):
    name, _, dense = case.partition(", ")
    model = MAKERS[name](n_items, users) if "item" in name else MAKERS[name](n_items)
    if dense:
        model._takes_csr = lambda: False
    return model


def trained(case, x, n_items=ITEMS, epochs=2):
    shape = getattr(getattr(x, "matrix", x), "shape", (USERS,))
    model = made(case, n_items, max(1, shape[0]))
    options = {"num_epochs": epochs, "batch_size": 25, "verbose": 0} if is_network(case) else {}
    model.train(x, **options)
    return model


def assert_same_lists(case, ours, theirs):
    """Equal to the bit for linear models; of networks as equal as sums in float32 are."""
    if not is_network(case):
        np.testing.assert_array_equal(ours.items, theirs.items)
        np.testing.assert_array_equal(ours.scores, theirs.scores)
        return
    assert ours.items.shape == theirs.items.shape
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-4, atol=1e-5)
    for u, r in np.argwhere(ours.items != theirs.items):  # only where two scores tie
        near = np.isclose(theirs.scores[u], ours.scores[u, r], rtol=1e-4, atol=1e-5)
        assert near.sum() > 1 or near[-1], (u, r)


@pytest.fixture(scope="module")
def checkerboard():
    """Even users like even items, odd users odd ones; one item a user is withheld."""
    u, i = np.ogrid[:USERS, :ITEMS]
    return sp.csr_array(((u % 2 == i % 2) & (u % ITEMS != i)).astype(np.float32))


@pytest.fixture(scope="module")
def trained_models():
    return {}


@pytest.fixture
def model(case, checkerboard, trained_models):
    """A model of the checkerboard, trained once for all tests that only ask it."""
    if case not in trained_models:
        trained_models[case] = trained(case, checkerboard)
    return trained_models[case]


def test_all_public_models_are_under_contract():
    assert {name.partition(" ")[0] for name in MAKERS} == set(models.__all__) - ABSTRACT
    assert all(isinstance(made(case), models.RecSysModel) for case in CASES)


@pytest.mark.parametrize("case", CASES)
class TestEveryModel:
    def test_save_and_load_keep_the_recommendations(self, case, checkerboard, tmp_path):
        ids = np.array([f"item {i}" for i in range(ITEMS)], dtype=object)
        model = trained(case, Interactions(checkerboard, np.arange(USERS), ids))
        model.save_model(tmp_path / "model")
        fresh = made(case)
        state = fresh.load_model(tmp_path / "model")
        loaded = pyrec.load_model(tmp_path / "model")
        assert isinstance(state, dict)
        for other in (fresh, loaded):
            assert type(other) is type(model)
            assert_same_lists(
                case, other.recommend(checkerboard, 7), model.recommend(checkerboard, 7)
            )
            np.testing.assert_array_equal(other.item_ids, ids)
            np.testing.assert_array_equal(other.item_counts, checkerboard.sum(0))

    def test_same_data_same_recommendations(self, case, model, checkerboard):
        again = trained(case, checkerboard)
        for first, second in zip(
            *(m.recommend(checkerboard, 9) for m in (model, again)), strict=True
        ):
            np.testing.assert_array_equal(first, second)

    def test_one_thread_and_two_give_the_same_items(self, case, draw, monkeypatch):
        x = draw(50 if is_network(case) else 400, 90, 0.2, binary="VAE" in case or "CFGAN" in case)
        results = []
        for n in (1, 2):
            monkeypatch.setenv("PYREC_NUM_THREADS", str(n))
            torch.set_num_threads(n)
            results.append(trained(case, x, 90, epochs=1).recommend(x, 9))
        if not is_network(case):
            np.testing.assert_array_equal(results[0].items, results[1].items)
        np.testing.assert_allclose(results[0].scores, results[1].scores, rtol=1e-3, atol=1e-5)

    def test_no_seen_item_is_returned(self, case, model, checkerboard):
        items = model.recommend(checkerboard, ITEMS).items
        rows = np.repeat(np.arange(USERS), ITEMS)[items.ravel() >= 0]
        assert checkerboard.toarray()[rows, items[items >= 0]].sum() == 0
        assert (items >= 0).sum() == USERS * ITEMS - checkerboard.nnz

    def test_seen_items_come_back_when_asked_for(self, case, model, checkerboard):
        items = model.recommend(checkerboard, ITEMS, remove_seen=False).items
        np.testing.assert_array_equal(np.sort(items, axis=1), np.tile(np.arange(ITEMS), (USERS, 1)))

    def test_more_than_there_are(self, case, model, checkerboard):
        items, scores = model.recommend(checkerboard[:3], ITEMS + 5)
        left = ITEMS - np.diff(checkerboard[:3].indptr)
        for u in range(3):
            assert (items[u, left[u] :] == -1).all()
            assert np.isneginf(scores[u, left[u] :]).all()
            assert (items[u, : left[u]] >= 0).all()
            assert (np.diff(scores[u, : left[u]]) <= 0).all()

    def test_lists_agree_with_the_scores(self, case, model, checkerboard):
        scores = model.scores(checkerboard)
        assert (scores.dtype, scores.shape) == (np.float32, (USERS, ITEMS))
        items, best = reference.topk(scores, 5, checkerboard.toarray() > 0)
        expected = kernels.Recommendations(items, best.astype(np.float32))
        assert_same_lists(case, model.recommend(checkerboard, 5), expected)
        hidden = np.asarray(model.predict(checkerboard)[0])
        np.testing.assert_array_equal(np.isneginf(hidden), checkerboard.toarray() > 0)

    def test_any_kind_of_history(self, case, model, checkerboard):
        expected = model.recommend(checkerboard, 5)
        order = 1 if case == "SVAE" else -1  # the one model to which it matters
        lists = [np.flatnonzero(row)[::order] for row in checkerboard.toarray()]
        for x in (
            checkerboard.toarray(),
            torch.from_numpy(checkerboard.toarray()),
            Csr.from_scipy(checkerboard),
            checkerboard.tocsc(),
            checkerboard.astype(np.float64),
            Histories.from_lists(lists, ITEMS),
            Interactions(checkerboard, np.arange(USERS), np.arange(ITEMS)),
        ):
            assert_same_lists(case, model.recommend(x, 5), expected)

    def test_any_kind_of_training_data(self, case, model, checkerboard):
        expected = model.recommend(checkerboard, 5)
        dense = torch.from_numpy(checkerboard.toarray())
        for x in (dense, checkerboard.tocoo(), Csr.from_scipy(checkerboard)):
            assert_same_lists(case, trained(case, x).recommend(checkerboard, 5), expected)

    def test_training_data_in_batches(self, case, model, checkerboard):
        dense = torch.from_numpy(checkerboard.toarray())
        for rows in (dense, checkerboard):
            batches = [(rows[:7], None), (rows[7:], None)]  # what a sampler gives
            if case == "SVAE":  # what follows what is for its sampler to say
                with pytest.raises(ValueError, match="te_batch must hold the targets of each step"):
                    trained(case, batches)
                continue
            other = trained(case, batches)
            np.testing.assert_array_equal(other.item_counts, model.item_counts)
            if not is_network(case):  # networks meet the rows in another order
                expected = model.recommend(checkerboard, 5)
                assert_same_lists(case, other.recommend(checkerboard, 5), expected)

    def test_another_catalogue_is_aligned_by_id(self, case, checkerboard):
        ids = np.arange(ITEMS) * 10
        model = trained(case, Interactions(checkerboard, np.arange(USERS), ids))
        order = np.random.default_rng(0).permutation(ITEMS)
        unknown = sp.csr_array(np.ones((USERS, 1), np.float32))
        other = Interactions(
            sp.hstack([checkerboard[:, order], unknown], format="csr"),
            np.arange(USERS),
            np.append(ids[order], 7),
        )
        assert_same_lists(case, model.recommend(other, 5), model.recommend(checkerboard, 5))

    def test_allow_and_deny(self, case, model, checkerboard):
        allowed = sp.csr_array(np.random.default_rng(0).random((USERS, ITEMS)) < 0.5)
        denied = np.array([0, 1, 17])
        items = model.recommend(
            checkerboard, ITEMS, allow=allowed, deny=denied, remove_seen=False
        ).items
        for u in range(USERS):
            assert set(items[u][items[u] >= 0]) == set(np.flatnonzero(allowed.toarray()[u])) - set(
                denied
            )

    def test_blocks_of_rows_make_no_difference(self, case, model, checkerboard, monkeypatch):
        deny = sp.csr_array(np.random.default_rng(0).random((USERS, ITEMS)) < 0.3)
        expected = model.recommend(checkerboard, 5, deny=deny)
        monkeypatch.setattr(model, "_block_rows", lambda: 7)
        assert_same_lists(case, model.recommend(checkerboard, 5, deny=deny), expected)

    def test_empty_inputs(self, case, model, checkerboard):
        items, scores = model.recommend(sp.csr_array((0, ITEMS)), 3)
        assert items.shape == scores.shape == (0, 3)
        assert items.dtype == np.int32
        assert scores.dtype == np.float32
        assert model.scores(sp.csr_array((0, ITEMS))).shape == (0, ITEMS)
        assert (model.recommend(sp.csr_array((2, ITEMS)), 3).items >= 0).all()

    def test_bad_input_is_named(self, case, model, checkerboard):
        name = type(model).__name__
        with pytest.raises(
            RuntimeError, match=f"{name} is not trained: call train or load_model first"
        ):
            made(case).recommend(checkerboard)
        with pytest.raises(ValueError, match="x has 39 columns, expected n_items = 40"):
            model.recommend(checkerboard[:, 1:])
        refused = f"{name} takes no condition|this CMultiVAE knows no item conditions"
        with pytest.raises(ValueError, match=refused):
            model.recommend(checkerboard, condition=1)
        with pytest.raises(ValueError, match="k must be a whole number of at least 0"):
            model.recommend(checkerboard, -1)
        with pytest.raises(
            ValueError, match="deny must have a row for each of the 60 histories, got 3"
        ):
            model.recommend(checkerboard, deny=checkerboard[:3])
        with pytest.raises(ValueError, match="was trained without item ids and the data has some"):
            model.recommend(Interactions(checkerboard, np.arange(USERS), np.arange(ITEMS) + 1))

    def test_bad_training_data_is_named(self, case, checkerboard):
        with pytest.raises(ValueError, match="train_data holds values that are NaN"):
            trained(case, np.full((2, ITEMS), np.nan))
        with pytest.raises(TypeError, match="train_data must be"):
            trained(case, 3)
        with pytest.raises(TypeError, match=r"got pandas DataFrame: use pyrec\.read_interactions"):
            trained(case, pd.DataFrame({"user": [1], "item": [2]}))
        with pytest.raises(
            TypeError, match="train_data must be one matrix or a sampler, got a tuple of 2"
        ):  # evaluate's pair: training on what is held out
            trained(case, (checkerboard, checkerboard))

    def test_degenerate_training_data(self, case):
        shapes = [(0, 0), (0, 3), (3, 0), (1, 1)]
        if is_network(case):  # nothing to learn from: the likelihood of no interactions
            for shape in shapes[1::2]:
                with pytest.raises(ValueError, match="train_data holds no interactions"):
                    trained(case, sp.csr_array(shape), shape[1])
            shapes = []
        for shape in shapes:
            model = trained(case, sp.csr_array(shape))
            items = model.recommend(sp.csr_array((2, shape[1])), 2).items
            assert (items[:, : shape[1]] >= 0).all()
            assert (items[:, shape[1] :] == -1).all()

    def test_one_user_with_one_item(self, case):
        if case == "SVAE":
            with pytest.raises(ValueError, match="no history of two items or more"):
                trained(case, sp.csr_array(np.ones((1, 1), np.float32)), 1)
            return
        model = trained(case, sp.csr_array(np.ones((1, 1), np.float32)), 1)
        np.testing.assert_array_equal(model.recommend(np.zeros((2, 1)), 2).items, [[0, -1]] * 2)


@pytest.mark.parametrize("case", [case for case in CASES if case != "Popularity"])
def test_the_withheld_item_comes_first(case, checkerboard):
    x = checkerboard
    if case == "SVAE":  # in order of their numbers, none would follow the last
        rng = np.random.default_rng(0)
        x = Histories.from_lists([rng.permutation(np.flatnonzero(r)) for r in x.toarray()], ITEMS)
    model = trained(case, x, epochs=EPOCHS.get(case.partition(", ")[0], 12))
    items = model.recommend(x, 1).items
    assert np.mean(items[:, 0] == np.arange(USERS) % ITEMS) > 0.95


class TestEase:
    X = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 0, 1, 1]])
    B = np.array(
        [
            [0, 0.5, -0.08333333, 0.43181818],
            [0.40909091, 0, 0.16666667, -0.06818182],
            [-0.06818182, 0.16666667, 0, 0.40909091],
            [0.43181818, -0.08333333, 0.5, 0],
        ]
    )

    def test_small_example(self):
        model = models.EASE(1.0)
        model.train(self.X)
        np.testing.assert_allclose(model.weights, self.B, atol=1e-6)

    @pytest.mark.parametrize("binary", [True, False])
    @pytest.mark.parametrize("dual", [True, False])
    def test_both_forms_equal_the_formula(self, draw, binary, dual, monkeypatch):
        monkeypatch.setattr(closed_form, "_dual_is_cheaper", lambda *given: dual)
        x = draw(50, 300, 0.1, binary=binary)
        model = models.EASE(30.0)
        model.train(x)
        expected = reference.ease(x.toarray(), 30.0)
        assert np.linalg.norm(model.weights - expected) < 2e-6 * np.linalg.norm(expected)

    def test_the_dual_form_is_for_few_users(self, draw):
        assert closed_form._dual_is_cheaper(sp.csr_array((100, 20_000)))
        assert not closed_form._dual_is_cheaper(draw(500, 400))

    def test_the_blocked_inverse_gives_the_same_weights(self, draw, monkeypatch):
        x = draw(400, 300)
        whole, blocked = models.EASE(10.0), models.EASE(10.0)
        whole.train(x)
        monkeypatch.setattr(kernels.arrays, "_WHOLE_INVERSE_ROW_BYTES", 0)
        monkeypatch.setattr(kernels.arrays, "INVERSE_BLOCK", 64)
        blocked.train(x)
        assert not np.array_equal(whole.weights, blocked.weights)  # it did go another way
        np.testing.assert_allclose(whole.weights, blocked.weights, atol=1e-6)

    def test_training_rows_are_looked_up(self, draw):
        x = draw(30, 20, 0.3)
        model = models.EASE(5.0)
        assert model.model is None
        model.train(x)
        expected = x.toarray() @ model.weights
        np.testing.assert_allclose(model.model[[3, 5]], expected[[3, 5]], atol=1e-6)
        np.testing.assert_allclose(model.model[4], expected[4], atol=1e-6)
        assert model.model.shape == (30, 20)
        fold_in = draw(2, 20, 0.3, seed=9)
        hidden = fold_in.toarray() > 0
        (scores,) = model.predict([3, 5], fold_in)
        np.testing.assert_array_equal(np.isneginf(scores), hidden)
        np.testing.assert_allclose(scores[~hidden], expected[[3, 5]][~hidden], atol=1e-6)
        np.testing.assert_allclose(
            model.predict([3, 5], fold_in, remove_train=False)[0], expected[[3, 5]], atol=1e-6
        )
        np.testing.assert_allclose(
            model.predict(None, fold_in, remove_train=False)[0],
            fold_in.toarray() @ model.weights,
            atol=1e-6,
        )
        with pytest.raises(
            ValueError, match=r"ids_te_users must be training rows in 0\.\.29, got 3\.\.30"
        ):
            model.predict([3, 30], fold_in)
        with pytest.raises(
            ValueError, match="test_tr must have a row for each of the 3 ids, got 2"
        ):
            model.predict([1, 2, 3], fold_in)

    def test_a_file_keeps_no_training_rows(self, draw, tmp_path):
        x = draw(30, 20, 0.3)
        model = models.EASE(5.0)
        model.train(x)
        model.save_model(tmp_path / "m")
        loaded = pyrec.load_model(tmp_path / "m")
        assert loaded.lam == 5.0
        with pytest.raises(RuntimeError, match="does not keep the training histories"):
            loaded.predict([0], x[:1])
        with pytest.raises(RuntimeError, match="does not keep the training histories"):
            loaded.model[0]
        np.testing.assert_array_equal(loaded.predict(None, x)[0], model.predict(None, x)[0])

    def test_similar_items(self, draw):
        model = models.EASE(5.0)
        model.train(draw(50, 20, 0.3))
        items, scores = model.similar_items([4, 7], 20)
        for row, item in enumerate((4, 7)):
            order = np.argsort(-model.weights[item], kind="stable")
            order = order[order != item]
            np.testing.assert_array_equal(items[row], np.append(order, -1))
            np.testing.assert_array_equal(scores[row, :-1], model.weights[item, order])
        with pytest.raises(ValueError, match=r"items must be in 0\.\.19, got 4\.\.20"):
            model.similar_items([4, 20])

    def test_explanations_sum_to_the_scores(self, draw):
        x = draw(50, 20, 0.3, binary=False)
        model = models.EASE(5.0)
        model.train(x)
        some = sp.csr_array(np.vstack([x.toarray()[:5], np.zeros((1, 20), np.float32)]))
        items, scores = model.recommend(some, 18)
        why = model.explain(some, items)
        np.testing.assert_allclose(
            (why.contributions.sum(2) + why.offset)[items >= 0], scores[items >= 0], atol=1e-5
        )
        mine = why.contributions[0, 0][: np.diff(some.indptr)[0]]
        assert (np.diff(mine) <= 0).all()
        assert set(why.items[0, 0][why.items[0, 0] >= 0]) == set(some[[0]].indices)
        assert (why.items[items < 0] == -1).all()

    @pytest.mark.parametrize("lam", [0, -1.0, np.nan, np.inf, "5", True])
    def test_bad_lambda(self, lam):
        with pytest.raises(ValueError, match="lam must be a number above 0"):
            models.EASE(lam)

    def test_memory_is_checked_first(self, monkeypatch):
        monkeypatch.setattr("pyrec.machine.available_memory", lambda: 4 << 30)
        message = r"EASE needs a 41,140 x 41,140 float32 matrix inverted in place, 6\.4 GiB; 4\.0 GiB are available"
        with pytest.raises(MemoryError, match=message):
            models.EASE().train(sp.csr_array((50_000, 41_140)))

    @pytest.mark.parametrize(
        ("x", "lam"),
        [
            (np.full((5000, 3), 1e4), 1e-6),  # λ vanishes in the sum
            (np.full((2, 3), 1e20), 1.0),  # the Gram matrix overflows
            (np.random.default_rng(0).random((40, 500)) < 0.2, 1e-4),  # weights wrong by a third
        ],
    )
    def test_what_float32_cannot_hold_is_named(self, x, lam):
        with (
            pytest.raises(np.linalg.LinAlgError, match="use a larger lam"),
            np.errstate(over="ignore"),
        ):
            models.EASE(lam).train(np.asarray(x, np.float32))

    def test_the_dual_form_beyond_float32_is_named(self, draw, monkeypatch):
        monkeypatch.setattr(closed_form, "_dual_is_cheaper", lambda *given: True)
        with (
            pytest.raises(np.linalg.LinAlgError, match="use a larger lam"),
            np.errstate(over="ignore"),
        ):
            models.EASE(1e-300).train(draw(5, 30, 0.3))

    def test_the_dual_form_is_not_taken_for_twice_the_memory(self):
        assert not closed_form._dual_is_cheaper(sp.csr_array((45_000, 60_000)))

    @pytest.mark.data
    @pytest.mark.parametrize("lam", [100.0, 1320.0])
    def test_equals_lapack_in_float64_on_movielens(self, real_data, lam):
        data = pyrec.read_interactions(real_data / "ml-1m" / "ncf" / "train.parquet")
        model = models.EASE(lam)
        model.train(data)
        expected = reference.ease(data.matrix.toarray(), lam)
        assert np.linalg.norm(model.weights - expected) < 2e-5 * np.linalg.norm(expected)
