import numpy as np

from flows.adapters.star_galaxy_models import new_net
from flows.training.cutout_fit import CutoutFit
from flows.training.star_galaxy_single import SinglePlan, by_group, cross_validate, held_out, tune
from tests.flows.training.star_galaxy_support import PLAN, cutouts, images_alone, sample

QUICK = SinglePlan(own=PLAN, tune=CutoutFit(epochs=2, batch=32, rate=3e-3), members=2, folds=3)


def test_no_group_is_divided_and_every_row_is_judged_once():
    group = np.random.default_rng(1).integers(0, 17, 400)
    judged = np.concatenate([judge for _, judge in by_group(group, 5, 3)])
    assert sorted(judged.tolist()) == list(range(400))
    for learn, judge in by_group(group, 5, 3):
        assert not set(group[learn]) & set(group[judge])
        assert len(learn) + len(judge) == 400
        assert 40 < len(judge) < 140


def test_every_frame_is_judged_by_models_that_have_not_seen_it():
    data = images_alone(cutouts())
    found = cross_validate(new_net().eval(), sample(data, 1), data.group, QUICK, 1, lambda line: None)
    assert np.isfinite(found.ours).all()
    assert all(np.isfinite(one).all() for one in found.baselines.values())
    assert len(found.baselines) == 2


def test_tuned_copies_leave_the_start_as_it_was():
    data = images_alone(cutouts())
    start = new_net().eval()
    before = {name: value.clone() for name, value in start.state_dict().items()}
    nets = tune(start, sample(data, 1), data.group, QUICK, 1)
    assert len(nets) == 2
    assert all((value == before[name]).all() for name, value in start.state_dict().items())
    assert not (nets[0].last.weight == nets[1].last.weight).all()


def test_holds_out_the_same_frames_whatever_the_rows():
    group = np.repeat(np.arange(33), 3)
    out = held_out(group)
    assert np.unique(group[out]).tolist() == [3, 9, 15, 21, 27]
    assert (held_out(group[::-1]) == out[::-1]).all()
