"""From trained networks to measures and attention maps."""


rule evaluate:
    """Measure a trained network on the test split."""
    input:
        data=lambda w: experiment(w).data_file,
        checkpoint=lambda w: experiment(w).trained_file(w.model, w.seed),
        teacher_predictions=lambda w: experiment(w).reference_file(w.model, w.seed),
    output:
        metrics="results/{experiment}/{model}/seed_{seed}/metrics.json",
        predictions="results/{experiment}/{model}/seed_{seed}/predictions.npz",
    log:
        "logs/evaluate/{experiment}/{model}/seed_{seed}.log",
    benchmark:
        "logs/evaluate/{experiment}/{model}/seed_{seed}.tsv"
    group:
        measure_group
    conda:
        "../envs/torch.yaml"
    threads: job_threads
    resources:
        mem_mb=lambda w, attempt: attempt * estimate(w).evaluation_megabytes(w.model),
        runtime=lambda w, attempt: attempt * estimate(w).evaluation_minutes(w.model),
        gpu=gpus,
    params:
        flags=lambda w: experiment(w).evaluation_flags(w.model, w.seed),
        code=lambda w: experiment(w).code("evaluate", [w.model], metrics=experiment(w).metrics),
    shell:
        "python workflow/scripts/evaluate.py"
        " --data {input.data:q}"
        " --checkpoint {input.checkpoint:q}"
        " --metrics {output.metrics:q}"
        " --predictions {output.predictions:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


rule extract_attention:
    """Collapse the stages of a trained network into attention maps."""
    input:
        data=lambda w: experiment(w).data_file,
        checkpoint=lambda w: experiment(w).trained_file(w.model, w.seed),
    output:
        attention="results/{experiment}/{model}/seed_{seed}/attention.npz",
    log:
        "logs/extract_attention/{experiment}/{model}/seed_{seed}.log",
    benchmark:
        "logs/extract_attention/{experiment}/{model}/seed_{seed}.tsv"
    group:
        measure_group
    conda:
        "../envs/torch.yaml"
    threads: job_threads
    resources:
        mem_mb=lambda w, attempt: attempt * estimate(w).evaluation_megabytes(w.model),
        runtime=lambda w, attempt: attempt * estimate(w).evaluation_minutes(w.model),
        gpu=gpus,
    params:
        flags=lambda w: experiment(w).attention_flags(),
        code=lambda w: experiment(w).code("extract_attention", [w.model]),
    shell:
        "python workflow/scripts/extract_attention.py"
        " --data {input.data:q}"
        " --checkpoint {input.checkpoint:q}"
        " --attention {output.attention:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


rule measure_attention:
    """Measure the attention maps of all networks of a seed over the test split."""
    input:
        data=lambda w: experiment(w).data_file,
        checkpoints=lambda w: experiment(w).measured_files(w.seed),
    output:
        metrics="results/{experiment}/attention/seed_{seed}.csv",
        provenance="results/{experiment}/attention/seed_{seed}.json",
    log:
        "logs/measure_attention/{experiment}/seed_{seed}.log",
    benchmark:
        "logs/measure_attention/{experiment}/seed_{seed}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: job_threads
    resources:
        mem_mb=lambda w, attempt: attempt * estimate(w).evaluation_megabytes(),
        runtime=lambda w, attempt: attempt * estimate(w).measurement_minutes(w.seed),
        gpu=gpus,
    params:
        flags=lambda w: experiment(w).measurement_flags(w.seed),
        code=lambda w: experiment(w).code("measure_attention", experiment(w).names),
    shell:
        "python workflow/scripts/measure_attention.py"
        " --data {input.data:q}"
        " --metrics {output.metrics:q}"
        " --provenance {output.provenance:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


# Where students train together, one job of each step measures those of a seed, and of those that
# train beside them.
for name, chosen in EXPERIMENTS.items():
    if chosen.together:
        workflow.ruleorder(f"evaluate_students_{name}", "evaluate")
        workflow.ruleorder(f"extract_attention_students_{name}", "extract_attention")

        rule:
            name:
                f"evaluate_students_{name}"
            input:
                data=chosen.data_file,
                checkpoints=chosen.together_files(chosen.measured_together, "checkpoint.pt"),
                teacher_predictions=lambda w, chosen=chosen: chosen.together_reference(w.seed),
            output:
                metrics=chosen.together_files(chosen.measured_together, "metrics.json"),
                predictions=chosen.together_files(chosen.measured_together, "predictions.npz"),
            log:
                f"logs/evaluate_students/{name}/seed_{{seed}}.log",
            benchmark:
                f"logs/evaluate_students/{name}/seed_{{seed}}.tsv"
            conda:
                "../envs/torch.yaml"
            threads: chosen.choices.threads
            resources:
                mem_mb=lambda w, attempt, name=name: attempt
                * ESTIMATES[name].evaluation_megabytes(),
                runtime=lambda w, attempt, name=name: attempt * ESTIMATES[name].students_minutes(),
                gpu=int(chosen.on_gpu),
            params:
                flags=lambda w, chosen=chosen: chosen.evaluation_flags(chosen.together[0], w.seed),
                code=chosen.code("evaluate", chosen.measured_together, metrics=chosen.metrics),
            shell:
                "python workflow/scripts/evaluate.py"
                " --data {input.data:q}"
                " --checkpoint {input.checkpoints:q}"
                " --metrics {output.metrics:q}"
                " --predictions {output.predictions:q}"
                " {params.flags:q}"
                " 2>&1 | tee -i {log:q}"

        rule:
            name:
                f"extract_attention_students_{name}"
            input:
                data=chosen.data_file,
                checkpoints=chosen.together_files(chosen.measured_together, "checkpoint.pt"),
            output:
                attention=chosen.together_files(chosen.measured_together, "attention.npz"),
            log:
                f"logs/extract_attention_students/{name}/seed_{{seed}}.log",
            benchmark:
                f"logs/extract_attention_students/{name}/seed_{{seed}}.tsv"
            conda:
                "../envs/torch.yaml"
            threads: chosen.choices.threads
            resources:
                mem_mb=lambda w, attempt, name=name: attempt
                * ESTIMATES[name].evaluation_megabytes(),
                runtime=lambda w, attempt, name=name: attempt * ESTIMATES[name].students_minutes(),
                gpu=int(chosen.on_gpu),
            params:
                flags=chosen.attention_flags(),
                code=chosen.code("extract_attention", chosen.measured_together),
            shell:
                "python workflow/scripts/extract_attention.py"
                " --data {input.data:q}"
                " --checkpoint {input.checkpoints:q}"
                " --attention {output.attention:q}"
                " {params.flags:q}"
                " 2>&1 | tee -i {log:q}"
