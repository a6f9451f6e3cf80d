# Drawn once a run: a new row redraws no other.
rule overlays:
    input:
        data=R / "data/{dataset}/dataset.json",
        predictions=R
        / "{dataset}/{experiment}/seed{seed}/predictions/{split}/manifest.json",
        records=R / "{dataset}/{experiment}/seed{seed}/evaluation/{split}/records.json",
    output:
        R / "{dataset}/{experiment}/seed{seed}/overlays/{split}/overlays.json",
    log:
        R / "logs/overlays/{split}/{dataset}/{experiment}/seed{seed}.log",
    priority: 30
    conda:
        "../../envs/score.yaml"
    threads: 1
    resources:
        mem_mb=memory("overlays", 2000),
        runtime=60,
    params:
        data=lambda wildcards, input: str(Path(input.data).parent),
        predictions=lambda wildcards, input: str(Path(input.predictions).parent),
        evaluation=lambda wildcards, input: str(Path(input.records).parent),
        folder=lambda wildcards, output: str(Path(output[0]).parent),
        images=PLAN.config.report.overlay_images,
        fingerprint=FINGERPRINT["overlays"],
    shell:
        "python -m segbench overlays --data {params.data:q} --split {wildcards.split}"
        " --predictions {params.predictions:q} --evaluation {params.evaluation:q}"
        " --out {params.folder:q} --images {params.images} > {log:q} 2>&1"


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
        config=lambda wildcards: str(PLAN.source),
        results=lambda wildcards, output: str(Path(output.table).parent),
        title=lambda wildcards: PLAN.config.report.title,
        gallery=PLAN.config.report.gallery_images,
        submissions=submission_facts(),
        fingerprint=FINGERPRINT["collect"],
    shell:
        "python -m segbench collect --config {params.config:q} --results {params.results:q}"
        " --out {output.table:q} > {log:q} 2>&1"


rule report:
    input:
        table=R / "table.json",
        overlays=all_overlays,
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
