# Archives land in raw/{dataset}/, which is no declared output: a failed or killed job keeps what
# has arrived, and the next one goes on.
rule download:
    output:
        R / "raw/{dataset}.json",
    log:
        R / "logs/download/{dataset}.log",
    localrule: True
    conda:
        "../../envs/score.yaml"
    params:
        raw=raw_folder,
        options=dataset_options,
    shell:
        "python -m segbench download {wildcards.dataset} {params.raw} {params.options:q}"
        " --out {output:q} > {log:q} 2>&1"


# dataset.json is written last of all: a killed prepare never passes as a whole dataset.
rule prepare:
    input:
        R / "raw/{dataset}.json",
    output:
        R / "data/{dataset}/dataset.json",
    log:
        R / "logs/prepare/{dataset}.log",
    priority: 100000
    conda:
        "../../envs/score.yaml"
    threads: 2
    resources:
        mem_mb=memory("prepare", 2000),
        runtime=240,
    params:
        raw=raw_folder,
        options=dataset_options,
        bad_images=lambda wildcards: PLAN.dataset_config(wildcards.dataset).bad_images,
        folder=lambda wildcards, output: str(Path(output[0]).parent),
        code=lambda wildcards: stage_fingerprint(
            "prepare", dataset_source(wildcards.dataset)
        ),
    shell:
        "python -m segbench prepare {wildcards.dataset} {params.raw} {params.options:q}"
        " --workers {threads} --bad-images {params.bad_images}"
        " --out {params.folder:q} > {log:q} 2>&1"
