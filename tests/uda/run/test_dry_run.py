import pytest

from mfm_hf.commands import train
from mfm_hf.uda.run.dry_run import RunEstimate, dry_run


def test_it_measures_two_steps_and_writes_nothing(make_trainer, tmp_path):
    trainer = make_trainer(mfm=True, mfm_start_step=50, pseudo_label_threshold=0.0, max_steps=101, eval_steps=25)
    estimate = dry_run(trainer)
    assert trainer.step == 52  # all losses count by then
    assert trainer.student.rebuilder.embedding.weight.grad.any()
    assert (estimate.num_steps, estimate.num_evaluations) == (101, 5)
    assert 2**20 < estimate.peak_memory < 2**40
    assert 0 < estimate.seconds_per_step < 60
    assert estimate.seconds_per_evaluation > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "number"), [({"eval_steps": 0}, 1), ({"eval_steps": 2, "final_evaluation": False}, 1)]
)
def test_evaluations_are_counted(options, number, make_trainer):
    assert dry_run(make_trainer(max_steps=4, **options)).num_evaluations == number


def test_the_time_of_a_run():
    estimate = RunEstimate(
        peak_memory=3 * 2**29, num_steps=40_000, seconds_per_step=0.5, num_evaluations=10, seconds_per_evaluation=60
    )
    assert estimate.seconds == 20_600
    lines = str(estimate).splitlines()
    assert lines[0] == "peak memory: 1.50 GiB"
    assert lines[-1] == "time in all: about 5:43:20"


def test_the_command_leaves_the_output_folder_alone(domains, tmp_path, capsys):
    output = tmp_path / "run"
    flags = (
        "--model segformer --backbone tiny --crop_size 32 48 --mfm --mfm_dim 32 --dataloader_num_workers 0 --use_cpu"
    )
    roles = ["--source", f"{domains}/source", "--target", f"{domains}/target", "--output_dir", str(output)]
    assert train.main([*roles, *flags.split(), "--dry_run"]) == {}
    assert "time in all: about" in capsys.readouterr().out
    assert not output.exists()
