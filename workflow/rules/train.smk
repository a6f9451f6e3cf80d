# The state folder is no output: Snakemake deletes the outputs of a failed job, and a killed
# training must resume. Retries live in profiles only (a rule's own are repeated inside a job).
rule train:
    input:
        data=R / "data/{dataset}/dataset.json",
        # of the run that this one starts from: content-checked, as the weights are too large for it
        base=base_files("recipe.json"),
        init=ancient(base_files("weights.safetensors")),
    output:
        weights=R / "{dataset}/{experiment}/seed{seed}/weights.safetensors",
        recipe=R / "{dataset}/{experiment}/seed{seed}/recipe.json",
        train_log=R / "{dataset}/{experiment}/seed{seed}/train_log.jsonl",
    log:
        R / "logs/train/{dataset}/{experiment}/seed{seed}.log",
    wildcard_constraints:
        experiment=one_of(EXPERIMENTS),
    priority: train_priority
    conda:
        "../../envs/segbench.yaml"
    threads: lambda wildcards: cell_of(wildcards).recipe.threads
    resources:
        gpu=lambda wildcards: cell_of(wildcards).recipe.gpus,
        mem_mb=memory("train", train_memory),
        runtime=lambda wildcards: 24 * 60 if cell_of(wildcards).recipe.gpus else 120,
    params:
        command=train_command,
        experiment=lambda wildcards: str(cell_of(wildcards).recipe_file),
        length=train_length,
        init=lambda wildcards, input: (
            f"--init {shlex.quote(str(input.init[0]))}" if input.init else ""
        ),
        folder=lambda wildcards, output: str(Path(output.weights).parent),
        data=lambda wildcards, input: str(Path(input.data).parent),
        state=lambda wildcards: str(R / "state" / cell_of(wildcards).folder),
        fingerprint=lambda wildcards: PLAN.train_fingerprint(cell_of(wildcards)),
    shell:
        "{params.command} train {params.experiment:q} {params.length} --data {params.data:q}"
        " {params.init} --seed {wildcards.seed} --out {params.folder:q} --state {params.state:q}"
        " --code {params.fingerprint} > {log:q} 2>&1"
