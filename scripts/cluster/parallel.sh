#!/usr/bin/env bash
# Runs a benchmark in shards with GNU parallel, on one machine or several, and merges the answers.
#
#   scripts/cluster/parallel.sh SHARDS OUT BENCHMARK [options of `diffa eval`]
#   scripts/cluster/parallel.sh 4 mmsu.jsonl mmsu --data mmsu.jsonl --model /models
#
# DIFFA     the program; `diffa` if not set
# JOBS      shards at a time; all if not set
# GPUS      adapters as `diffa devices` numbers them, for example "0 1 2 3": one job at a time on each
# PARALLEL  options for GNU parallel itself, which reads them: PARALLEL="--sshloginfile hosts --workdir ."
#
# Started again after a crash, it goes on where the shards stopped.
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
shards=$1 out=$2 benchmark=$3
shift 3
diffa=${DIFFA:-diffa}
read -ra gpus <<<"${GPUS:-}"
jobs=${JOBS:-$shards}
adapter=()
if [ ${#gpus[@]} -gt 0 ]; then
    jobs=${#gpus[@]}
    # {%} is the number of the job slot, from 1.
    adapter=(--adapter '{= my @gpus = split " ", $ENV{GPUS}; $_ = $gpus[slot() - 1] =}')
fi

files=()
for ((i = 0; i < shards; i++)); do files+=("$out.$i-of-$shards"); done

# A shard that fails does not stop the others; each is tried twice.
parallel --quote --jobs "$jobs" --retries 2 --line-buffer --tag --joblog "$out.joblog" \
    "$diffa" eval "$benchmark" --shard "{}/$shards" --out "$out.{}-of-$shards" --resume --quiet "${adapter[@]}" "$@" \
    ::: $(seq 0 $((shards - 1)))

"$diffa" merge "$out" "${files[@]}"
