#!/bin/bash
# A run in eight parts on a cluster without Ray: one GPU a part, and a last job that joins them.
#
#     sbatch docs/slurm.sh suites/sdxl_main.yaml
#
# Every part needs the same package, the same files of models and the same --batch-size. A part that was stopped is
# finished by submitting it again: sbatch --array=3 docs/slurm.sh suites/sdxl_main.yaml
#SBATCH --job-name=noisebench
#SBATCH --array=1-8
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --output=shard-%a.log
#SBATCH --open-mode=append
set -euo pipefail

suite=$1
runs=${RUNS:-runs}
shards=8

if [ "${2:-}" = merge ]; then
    python -m bench merge "$runs"/*-shard-*-of-"$shards"
    exit
fi

# SLURM sends SIGTERM before the time limit: what is finished is kept.
python -m bench run "$suite" --shard "$SLURM_ARRAY_TASK_ID/$shards" --batch-size 4 --runs "$runs"

if [ "$SLURM_ARRAY_TASK_ID" = 1 ]; then
    # Once, by the first part: joined when all parts have ended well.
    sbatch --dependency="afterok:$SLURM_ARRAY_JOB_ID" --array=0 --gpus=0 --output=merge.log "$0" "$suite" merge
fi
