def all_records(wildcards) -> list[Path]:
    """Return every record the board shows."""
    return [R / path for path in PLAN.records()]


def all_profiles(wildcards) -> list[Path]:
    """Return the profile of every trained cell."""
    return [
        R / cell.folder / "profile.json" for cell in PLAN.cells if not cell.is_control
    ]


rule collect:
    input:
        records=all_records,
        profiles=all_profiles,
    output:
        table=R / "table.json",
        csv=R / "table.csv",
    log:
        R / "logs/collect.log",
    conda:
        "../../envs/score.yaml"
    params:
        config=str(PLAN.source),
        title=PLAN.config.report.title,
        gallery=PLAN.config.report.gallery_images,
        fingerprint=FINGERPRINT["collect"],
    shell:
        "{PYTHON} -m segbench collect --config {params.config:q} --results {R:q}"
        " --out {output.table:q} > {log:q} 2>&1"


rule report:
    input:
        table=R / "table.json",
    output:
        R / "report/index.html",
    log:
        R / "logs/report.log",
    conda:
        "../../envs/score.yaml"
    params:
        folder=lambda wildcards, output: str(Path(output[0]).parent),
        fingerprint=FINGERPRINT["report"],
    shell:
        "{PYTHON} -m segbench report {input.table:q} --out {params.folder:q} > {log:q} 2>&1"
