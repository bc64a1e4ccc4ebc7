import json

from mfm_hf.uda.run.collapse import CollapseWatch


def test_a_class_that_was_learned_and_is_lost_is_named():
    watch = CollapseWatch()
    assert watch.update({"train": 0.5, "road": 0.9, "rider": 0.05, "bus": None}) == []
    (line,) = watch.update({"train": 0.01, "road": 0.8, "rider": 0.0, "bus": None})
    assert "'train'" in line
    assert "0.500" in line


def test_it_remembers_across_an_interruption():
    watch, resumed = CollapseWatch(), CollapseWatch()
    watch.update({"train": 0.5, "bus": None})
    resumed.load_state_dict(json.loads(json.dumps(watch.state_dict())))
    later = {"train": 0.01, "bus": 0.3}
    assert resumed.update(later) == watch.update(later) != []
