#!/bin/bash
# sbatch --nodes 4 recipes/cluster/slurm.sh CONFIG RUN
#
# A Ray cluster in one allocation: the first node is its head and runs the driver. RUN lies on a file system of all nodes.
# The same command continues a run that the time limit, or anything else, ended.
#SBATCH --job-name genprm
#SBATCH --ntasks-per-node 1
#SBATCH --exclusive
#SBATCH --time 24:00:00
set -euo pipefail

config=$1
run=$2
port=6379
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes 1 --ntasks 1 --nodelist "$head" hostname --ip-address | awk '{print $1}'):$port

srun --nodes 1 --ntasks 1 --nodelist "$head" \
  ray start --head --port "$port" --num-cpus "$SLURM_CPUS_ON_NODE" --block &
until (exec 3<>"/dev/tcp/${address%:*}/$port") 2>/dev/null; do sleep 1; done

if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  srun --nodes $((SLURM_JOB_NUM_NODES - 1)) --ntasks $((SLURM_JOB_NUM_NODES - 1)) --exclude "$head" \
    ray start --address "$address" --num-cpus "$SLURM_CPUS_ON_NODE" --block &
fi

srun --overlap --nodes 1 --ntasks 1 --nodelist "$head" \
  genprm run "$config" --executor ray --address "$address" --run-dir "$run" --until chats
