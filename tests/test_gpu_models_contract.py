"""The contract of `test_models`, with every model on a GPU."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import test_models
from test_gpu_models import assert_near, by_processor, place, without_devices
from test_models import ITEMS, MAKERS, NETWORKS, checkerboard

import pyrec

__all__ = ["checkerboard", "place"]  # fixtures

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.filterwarnings("ignore:.*order:UserWarning"),
]

CONTRACT = {name for name in vars(test_models.TestEveryModel) if name.startswith("test_")}
CONTRACT -= {  # what trains models again: training has tests of its own
    "test_same_data_same_recommendations",
    "test_one_thread_and_two_give_the_same_items",
    "test_any_kind_of_training_data",
    "test_training_data_in_batches",
    "test_bad_training_data_is_named",
}
# The kernels, which take their time on the processor, make all lists in one way.
BY_KERNELS = ["test_more_than_there_are", "test_allow_and_deny", "test_empty_inputs"]
WAYS = ["EASE", "ADMM_Slim", "VAE", "MultiVAE", "CMultiVAE", "SVAE", "CFGAN", "CFGAN (item)"]
COMBINATIONS = [
    *[pytest.param("kernels", case, name) for case in WAYS for name in BY_KERNELS],
    *[pytest.param("torch", case, name) for case in MAKERS for name in sorted(CONTRACT)],
    *[
        pytest.param("cuda", case, name, marks=pytest.mark.gpu)
        for case in MAKERS
        for name in sorted(CONTRACT)
        if name != "test_lists_agree_with_the_scores"
        or case not in NETWORKS  # which are tensors there
    ],
]


@pytest.fixture(scope="module")
def trained():
    """Models by their case and device."""
    return {}


class TestContract:
    @pytest.fixture(autouse=True)
    def on_the_device(self, place, monkeypatch):
        made, trained = test_models.made, test_models.trained

        def made_there(*args):
            model = made(*args)
            model.to(place)
            return model

        def trained_there(*args, **options):
            with without_devices():  # training has tests of its own
                model = trained(*args, **options)
            model.to(place)
            return model

        monkeypatch.setattr(test_models, "made", made_there)
        monkeypatch.setattr(test_models, "trained", trained_there)
        monkeypatch.setattr(test_models, "assert_same_lists", lambda case, a, b: assert_near(a, b))

    @pytest.mark.parametrize(("gpu", "case", "method"), COMBINATIONS, indirect=["gpu"])
    def test_holds(self, case, method, request, checkerboard, place, trained):
        wanted = inspect.signature(getattr(test_models.TestEveryModel, method)).parameters
        known = {"self": None, "case": case, "checkerboard": checkerboard}
        if "model" in wanted:
            known["model"] = self.model(case, checkerboard, place, trained)
        for name in set(wanted) - set(known):
            known[name] = request.getfixturevalue(name)
        getattr(test_models.TestEveryModel, method)(**{name: known[name] for name in wanted})

    def model(self, case, checkerboard, place, trained):
        if (case, place) not in trained:
            trained[case, place] = test_models.trained(case, checkerboard)
        return trained[case, place]

    @pytest.mark.parametrize("case", MAKERS)
    def test_there_and_back(self, case, checkerboard, place, tmp_path):
        with without_devices():
            model = test_models.trained(case, checkerboard)
            model.to("cpu")
            expected = model.recommend(checkerboard, 7)
        model.to(place)
        assert_near(model.recommend(checkerboard, 7), expected)
        model.save_model(tmp_path / "m")
        with without_devices():
            loaded = pyrec.load_model(tmp_path / "m")
            assert loaded.device_type == "cpu"
            assert_near(loaded.recommend(checkerboard, 7), expected)
            model.to("cpu")
            assert_near(model.recommend(checkerboard, 7), expected)
            assert model.device_type == "cpu"

    @pytest.mark.parametrize("case", MAKERS)
    @pytest.mark.parametrize(
        "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
    )
    def test_copies_and_pickles(self, case, copied, checkerboard, place, trained):
        model = self.model(case, checkerboard, place, trained)
        expected = model.recommend(checkerboard, 7)
        other = copied(model)
        assert getattr(other, "_there", None) is None
        assert other.device_type == model.device_type
        assert_near(other.recommend(checkerboard, 7), expected)

    @pytest.mark.parametrize("case", MAKERS)
    def test_lists_are_those_of_the_processor(self, case, checkerboard, place, trained):
        model, some = self.model(case, checkerboard, place, trained), checkerboard[:20]
        deny = sp.csr_array(np.random.default_rng(0).random((20, ITEMS)) < 0.3)
        found = model.recommend(some, 7, deny=deny)
        assert_near(found, by_processor(model, some, 7, deny=deny))
