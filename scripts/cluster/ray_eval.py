"""Runs a benchmark in shards on a Ray cluster and merges the answers.

    python scripts/cluster/ray_eval.py --shards 8 --out /shared/mmsu.jsonl -- mmsu --data /shared/mmsu.jsonl --model /shared/models

Everything after `--` goes to `diffa eval`. Paths must be the same on all nodes. A shard whose node dies is started
again elsewhere and goes on where it stopped; so does everything if this script is started again.
"""

import argparse
import pathlib
import subprocess
import sys

import ray


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, required=True, help="number of shards, at least the number of GPUs")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="merged file")
    parser.add_argument("--diffa", default="diffa", help="the program")
    parser.add_argument("--gpus", type=float, default=1, help="GPUs a shard needs; 0 for a software adapter")
    parser.add_argument("--cpus", type=float, default=1, help="CPU cores a shard needs")
    parser.add_argument("--address", help="the cluster; a local one if not given")
    parser.add_argument("eval", nargs="+", metavar="-- BENCHMARK ...", help="arguments of `diffa eval`")
    return parser.parse_args()


def answer(command):
    """One shard. Raises, and so is retried, unless the program says that all items have a row."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 2:
        # Bad usage or input: another try would end the same way.
        return False, done.stderr.strip()
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return True, done.stdout.strip()


def main():
    args = arguments()
    ray.init(address=args.address, log_to_driver=False)
    task = ray.remote(num_gpus=args.gpus, num_cpus=args.cpus, max_retries=3, retry_exceptions=True)(answer)
    files = [f"{args.out.resolve()}.{i}-of-{args.shards}" for i in range(args.shards)]
    running = {}
    for i, file in enumerate(files):
        shard = ["--shard", f"{i}/{args.shards}", "--out", file, "--resume", "--quiet"]
        running[task.remote([args.diffa, "eval", *args.eval, *shard])] = i
    failed = 0
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        shard = running.pop(ready)
        try:
            good, message = ray.get(ready)
        except ray.exceptions.RayError as error:
            good, message = False, str(error).strip().splitlines()[-1]
        failed += not good
        print(f"shard {shard}/{args.shards}: {message}", flush=True)
    if failed:
        sys.exit(f"{failed} of {args.shards} shards failed; start this again to go on with them")
    sys.exit(subprocess.run([args.diffa, "merge", str(args.out), *files]).returncode)


main()
