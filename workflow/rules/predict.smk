# A trained run, or the same weights with the truth in place of some of their parts.
rule predict:
    input:
        data=R / "data/{dataset}/dataset.json",
        # small and content-checked; it holds the digest of the weights, which predict compares
        recipe=trained_file("recipe.json"),
        weights=ancient(trained_file("weights.safetensors")),
    output:
        R / "{dataset}/{experiment}/seed{seed}/predictions/{split}/manifest.json",
    log:
        R / "logs/predict/{split}/{dataset}/{experiment}/seed{seed}.log",
    wildcard_constraints:
        experiment=one_of(EXPERIMENTS + ORACLES),
    priority: 60
    conda:
        "../../envs/segbench.yaml"
    threads: lambda wildcards: cell_of(wildcards).recipe.threads
    resources:
        gpu=lambda wildcards: min(1, cell_of(wildcards).recipe.gpus),
        mem_mb=memory("predict", 4000),
        runtime=240,
    params:
        experiment=lambda wildcards: str(cell_of(wildcards).recipe_file),
        data=lambda wildcards, input: str(Path(input.data).parent),
        length=train_length,
        run=lambda wildcards, input: str(Path(input.recipe).parent),
        oracles=lambda wildcards: [f"--oracle={p}" for p in cell_of(wildcards).oracles],
        folder=lambda wildcards, output: str(Path(output[0]).parent),
        fingerprint=lambda wildcards: PLAN.predict_fingerprint(cell_of(wildcards)),
    shell:
        "python -m segbench predict {params.experiment:q} {params.length} --run {params.run:q}"
        " --data {params.data:q} --split {wildcards.split} {params.oracles}"
        " --out {params.folder:q} > {log:q} 2>&1"


# Rows that need no training and must land where theory says.
rule control:
    input:
        data=R / "data/{dataset}/dataset.json",
    output:
        R / "{dataset}/{experiment}/seed{seed}/predictions/{split}/manifest.json",
    log:
        R / "logs/control/{split}/{dataset}/{experiment}/seed{seed}.log",
    wildcard_constraints:
        experiment=one_of(CONTROLS),
    priority: 60
    conda:
        "../../envs/score.yaml"
    threads: 1
    resources:
        mem_mb=memory("control", 2000),
        runtime=60,
    params:
        data=lambda wildcards, input: str(Path(input.data).parent),
        folder=lambda wildcards, output: str(Path(output[0]).parent),
        fingerprint=lambda wildcards: PLAN.predict_fingerprint(cell_of(wildcards)),
    shell:
        "python -m segbench control {wildcards.experiment} --data {params.data:q}"
        " --split {wildcards.split} --out {params.folder:q} > {log:q} 2>&1"


# Predictions made elsewhere. A changed folder is copied and scored again.
rule submit:
    input:
        data=R / "data/{dataset}/dataset.json",
    output:
        R / "{dataset}/{experiment}/seed{seed}/predictions/{split}/manifest.json",
    log:
        R / "logs/submit/{split}/{dataset}/{experiment}/seed{seed}.log",
    wildcard_constraints:
        experiment=one_of(SUBMISSIONS),
    priority: 60
    conda:
        "../../envs/score.yaml"
    threads: 1
    resources:
        mem_mb=memory("submit", 2000),
        runtime=60,
    params:
        submission=lambda wildcards: str(cell_of(wildcards).submission_file),
        name=lambda wildcards: cell_of(wildcards).display_name,
        data=lambda wildcards, input: str(Path(input.data).parent),
        folder=lambda wildcards, output: str(Path(output[0]).parent),
        state=lambda wildcards: folder_state(cell_of(wildcards).submission),
        fingerprint=lambda wildcards: PLAN.predict_fingerprint(cell_of(wildcards)),
    shell:
        "python -m segbench submit {params.submission:q} --data {params.data:q}"
        " --out {params.folder:q} > {log:q} 2>&1"
