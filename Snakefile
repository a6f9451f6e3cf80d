# segbench: download -> prepare -> train -> predict -> evaluate -> profile -> collect -> report
#
#   snakemake --cores 2 --keep-going                      this machine, config.yaml
#   snakemake --profile slurm                             a cluster, one job per step
#   snakemake --cores 2 --configfile workflow/configs/camvid.yaml
import os
import subprocess

from snakemake.utils import min_version

from segbench.workflow.slurm import keeps_accounting, put_first_on_path

min_version("9.10")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/profile.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        # all that a row is made for: what was taken away is made anew, also under a finished table
        all_records,
        all_profiles,
        R / "table.json",
        R / "report/index.html",
    localrule: True


onstart:
    LAUNCH.start()
    # The Slurm executor can lose sight of its jobs and then waits for ever, in silence.
    if workflow.executor_plugin.name == "slurm":
        # Where the controller is away for a moment it asks sacct, which without accounting
        # never has an answer.
        if not keeps_accounting():
            put_first_on_path(Path(workflow.basedir) / "workflow" / "no_accounting")
        subprocess.Popen(
            [sys.executable, "-m", "segbench.workflow.watchdog", str(os.getpid())],
            start_new_session=True,
        )


onsuccess:
    LAUNCH.finish()


# A failed row never costs the board: what is there is shown, the failed cell with its log.
# The table of all rows is taken away, so that the next launch tries the missing ones again.
onerror:
    if LAUNCH.finish():
        (R / "table.json").unlink(missing_ok=True)
        (R / "table.csv").unlink(missing_ok=True)
        shell(
            "python -m segbench collect --config {PLAN.source:q} --results {R:q}"
            " --out {R:q}/partial/table.json"
        )
        shell(
            "python -m segbench report {R:q}/partial/table.json --results {R:q} --out {R:q}/report"
        )
    LAUNCH.leave()
