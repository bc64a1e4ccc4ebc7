#!/bin/bash
# sbatch scripts/accelerate_configs/slurm.sh outputs/run --source data/game --target data/real --recipe dacs --mfm
#
# Two minutes before its time is up, or when it is preempted, the run finishes its step, saves a checkpoint and ends;
# the job is queued again and goes on from there. Run it from the root of the repository.
#SBATCH --job-name=mfm_hf
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

output_dir=${1:?usage: sbatch slurm.sh OUTPUT_DIR OPTIONS...}
shift

resume=()
if compgen -G "$output_dir/checkpoint-*" > /dev/null; then
    resume=(--resume_from_checkpoint latest)
fi

export MAIN_HOST NUM_PROCESSES
MAIN_HOST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
NUM_PROCESSES=$((SLURM_NNODES * SLURM_GPUS_ON_NODE))

# The machine's number is known on the machine only, hence the inner shell.
launch='exec accelerate launch --config_file scripts/accelerate_configs/several_machines.yaml \
    --num_machines "$SLURM_NNODES" --num_processes "$NUM_PROCESSES" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$MAIN_HOST" scripts/train_uda.py "$@"'
srun --kill-on-bad-exit=0 bash -c "$launch" bash --output_dir "$output_dir" --save_steps 1000 --save_total_limit 2 \
    ${resume[@]+"${resume[@]}"} "$@" &
step=$!

asked_to_end=false
# scancel reaches every process of the step; the launchers pass the signal on to their own.
trap 'asked_to_end=true; scancel --signal=TERM "$SLURM_JOB_ID"' TERM
wait "$step"
status=$?
if $asked_to_end; then
    trap - TERM
    wait "$step"  # the first wait was ended by the signal
    if [ ! -e "$output_dir/results.json" ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit "$status"
