# One job scores a run for all its tasks; records.json is written last.
rule evaluate:
    input:
        data=R / "data/{dataset}/dataset.json",
        predictions=R
        / "{dataset}/{experiment}/seed{seed}/predictions/{split}/manifest.json",
    output:
        R / "{dataset}/{experiment}/seed{seed}/evaluation/{split}/records.json",
    log:
        R / "logs/evaluate/{split}/{dataset}/{experiment}/seed{seed}.log",
    priority: 70
    conda:
        "../../envs/score.yaml"
    threads: score_processes
    resources:
        mem_mb=memory("evaluate", lambda wildcards, threads: 2000 + 1000 * threads),
        runtime=120,
    params:
        data=lambda wildcards, input: str(Path(input.data).parent),
        predictions=lambda wildcards, input: str(Path(input.predictions).parent),
        folder=lambda wildcards, output: str(Path(output[0]).parent),
        tasks=score_options,
        fingerprint=FINGERPRINT["evaluate"],
    shell:
        "python -m segbench evaluate --data {params.data:q} --split {wildcards.split}"
        " {params.tasks} --predictions {params.predictions:q} --out {params.folder:q}"
        " --workers {threads} > {log:q} 2>&1"
