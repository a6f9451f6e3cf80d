rule profile:
    input:
        data=R / "data/{dataset}/dataset.json",
    output:
        R / "{dataset}/{experiment}/seed{seed}/profile.json",
    log:
        R / "logs/profile/{dataset}/{experiment}/seed{seed}.log",
    wildcard_constraints:
        experiment=one_of(EXPERIMENTS),
    priority: 40
    conda:
        "../../envs/segbench.yaml"
    threads: lambda wildcards: cell_of(wildcards).recipe.threads
    resources:
        gpu=lambda wildcards: min(1, cell_of(wildcards).recipe.gpus),
        mem_mb=memory("profile", 4000),
        runtime=60,
    params:
        experiment=lambda wildcards: str(cell_of(wildcards).recipe_file),
        data=lambda wildcards, input: str(Path(input.data).parent),
        fingerprint=lambda wildcards: (
            f"{PLAN.predict_fingerprint(cell_of(wildcards))}-{FINGERPRINT['profile']}"
        ),
    shell:
        "python -m segbench profile {params.experiment:q} --data {params.data:q} --full"
        " --out {output:q} > {log:q} 2>&1"
