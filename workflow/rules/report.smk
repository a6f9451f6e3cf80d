rule collect:
    input:
        records=all_records,
        profiles=all_profiles,
    output:
        table=R / "table.json",
        csv=R / "table.csv",
    log:
        R / "logs/collect.log",
    localrule: True
    conda:
        "../../envs/score.yaml"
    params:
        config=str(PLAN.source),
        results=lambda wildcards, output: str(Path(output.table).parent),
        title=PLAN.config.report.title,
        gallery=PLAN.config.report.gallery_images,
        fingerprint=FINGERPRINT["collect"],
    shell:
        "python -m segbench collect --config {params.config:q} --results {params.results:q}"
        " --out {output.table:q} > {log:q} 2>&1"


rule report:
    input:
        table=R / "table.json",
    output:
        R / "report/index.html",
    log:
        R / "logs/report.log",
    localrule: True
    conda:
        "../../envs/score.yaml"
    params:
        folder=lambda wildcards, output: str(Path(output[0]).parent),
        fingerprint=FINGERPRINT["report"],
    shell:
        "python -m segbench report {input.table:q} --out {params.folder:q} > {log:q} 2>&1"
