"""`python -m launch COMMAND`: start the other folders' commands."""

import sys

from mytalk import command

COMMANDS = {
    "pipeline": ("launch.pipeline", "from a folder of videos to a report: shards, four trained networks, scores"),
    "demo": ("launch.demo", "the pipeline on people that are drawn first"),
    "local": ("launch.local", "a command in several processes on this machine, usually one for each GPU"),
    "slurm": (
        "launch.slurm.command",
        "a command on several machines of a Slurm cluster: the script, submitted or printed",
    ),
    "ssh": ("launch.hosts.ssh", "a command on several machines that ssh reaches: checked, started, watched, shrunk"),
    "kubernetes": ("launch.clusters.kubernetes", "a command on Kubernetes: a JobSet, or Kubeflow's TrainJob"),
    "skypilot": ("launch.clusters.skypilot", "a command on rented machines, by SkyPilot"),
    "node": ("launch.hosts.node", "the ranks of one host of several, as the environment describes it"),
    "preflight": ("launch.preflight.command", "before a training: what it needs, what is there, and the bottleneck"),
    "drill": ("launch.drill.command", "a small training through every fault of a cluster: nothing may differ after"),
    "status": ("launch.follow.status", "where a training stands: step, rate, time left, restarts and their reasons"),
    "runs": ("launch.follow.listing", "the trainings below a folder, a row each"),
}

if __name__ == "__main__":
    sys.exit(command.main("python -m launch", __doc__, COMMANDS))
