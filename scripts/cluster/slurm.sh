#!/usr/bin/env bash
# A benchmark as a Slurm job array: one shard a task, one GPU a shard.
#
#   sbatch --array=0-7 scripts/cluster/slurm.sh OUT BENCHMARK [options of `diffa eval`]
#   sbatch --array=0-7 scripts/cluster/slurm.sh mmsu.jsonl mmsu --data mmsu.jsonl --model /models
#   sbatch --dependency=afterok:JOB --wrap 'diffa merge mmsu.jsonl mmsu.jsonl.*-of-8'
#
# The array must begin at 0. A task that is preempted or runs out of time gets SIGTERM, ends with a clean file and
# is put back into the queue; it then goes on where it stopped.
#SBATCH --job-name=diffa-eval
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
set -euo pipefail

if [ $# -lt 2 ] || [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
out=$1 benchmark=$2
shift 2
shard=$SLURM_ARRAY_TASK_ID shards=$SLURM_ARRAY_TASK_COUNT

"${DIFFA:-diffa}" eval "$benchmark" --shard "$shard/$shards" --out "$out.$shard-of-$shards" --resume --quiet "$@" &
# The signal goes to this script, which hands it on. `wait` returns at the signal, so it is asked once more.
trap 'kill -TERM %1 2>/dev/null || true' TERM
status=0
wait %1 || status=$?
if [ "$status" -gt 128 ]; then
    status=0
    wait %1 || status=$?
fi
if [ "$status" -eq 130 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
