from flows.adapters.weights import load_model
from flows.training.boosted_fit import TreeFit
from flows.training.boosted_train import Examples
from flows.training.candidate_set import find_on
from flows.training.two_stage_fit import NetFit
from flows.training.two_stage_train import TwoStagePlan, train_two_stage
from kernels.plane import Places


def test_trains_and_writes_a_detector(examples, tmp_path):
    said = []
    plan = TwoStagePlan(TreeFit(trees=20, least=3), NetFit(epochs=2, batch=16), floor=-9.0)
    sets = Examples(examples, examples[1:], examples[1:])
    figures = train_two_stage(tmp_path, sets, plan, {"command": "this test"}, 1, 1, said.append)
    detector = load_model("detect", str(tmp_path))
    assert detector.card.metrics == figures
    assert detector.card.training == {"command": "this test"}
    assert 0 <= detector.card.input["share"] <= 1
    plane = find_on(examples[1]).plane
    rows, columns = (extent // 4 for extent in plane.pixels.shape)
    logits, _ = detector.search(plane, Places(0, 0, rows, columns, 4))
    assert (logits > 0).sum() >= 3
