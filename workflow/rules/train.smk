"""From data to trained networks."""


rule train_teacher:
    """Train a large network from the labels."""
    input:
        data=lambda w: experiment(w).data_file,
    output:
        checkpoint="results/{experiment}/{teacher}/seed_{seed}/checkpoint.pt",
        history="results/{experiment}/{teacher}/seed_{seed}/history.csv",
        tensorboard=directory("results/{experiment}/{teacher}/seed_{seed}/tensorboard"),
    log:
        "logs/train_teacher/{experiment}/{teacher}/seed_{seed}.log",
    benchmark:
        "logs/train_teacher/{experiment}/{teacher}/seed_{seed}.tsv"
    # Everything else waits for the teacher.
    priority: 10
    conda:
        "../envs/torch.yaml"
    threads: job_threads
    resources:
        mem_mb=lambda w, attempt: attempt * estimate(w).training_megabytes(w.teacher),
        # The same for each attempt: a training goes on where it stopped.
        runtime=lambda w: estimate(w).training_minutes(w.teacher),
        gpu=gpus,
    params:
        flags=lambda w: experiment(w).training_flags(w.teacher, w.seed),
        code=lambda w: experiment(w).training_code(w.teacher),
        time_limit=time_limit,
    shell:
        "python workflow/scripts/train_teacher.py"
        " --data {input.data:q}"
        " --checkpoint {output.checkpoint:q}"
        " --history {output.history:q}"
        " --tensorboard {output.tensorboard:q}"
        " {params.flags:q}"
        " {params.time_limit:q}"
        " 2>&1 | tee -i {log:q}"


rule import_teacher:
    """Take a teacher that the user brings, as a checkpoint of this project."""
    input:
        data=lambda w: experiment(w).data_file,
    output:
        checkpoint="results/{experiment}/{teacher}/seed_{seed}/imported_checkpoint.pt",
        history="results/{experiment}/{teacher}/seed_{seed}/imported_history.csv",
    log:
        "logs/import_teacher/{experiment}/{teacher}/seed_{seed}.log",
    benchmark:
        "logs/import_teacher/{experiment}/{teacher}/seed_{seed}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: attempt * estimate(w).megabytes(),
        runtime=lambda w, attempt: attempt * estimates.START_MINUTES,
    params:
        flags=lambda w: experiment(w).import_flags(w.teacher),
        source=lambda w: experiment(w).import_source(w.teacher),
        code=lambda w: experiment(w).code("import_teacher", [w.teacher]),
    shell:
        "python workflow/scripts/import_teacher.py"
        " --data {input.data:q}"
        " --checkpoint {output.checkpoint:q}"
        " --history {output.history:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


rule tabulate_targets:
    """Write a teacher's logits for all views of the training images."""
    input:
        data=lambda w: experiment(w).data_file,
        checkpoint=lambda w: experiment(w).trained_file(w.teacher, w.seed),
    output:
        targets="results/{experiment}/{teacher}/seed_{seed}/targets.npz",
    log:
        "logs/tabulate_targets/{experiment}/{teacher}/seed_{seed}.log",
    benchmark:
        "logs/tabulate_targets/{experiment}/{teacher}/seed_{seed}.tsv"
    priority: 10
    conda:
        "../envs/torch.yaml"
    threads: job_threads
    resources:
        mem_mb=lambda w, attempt: attempt * estimate(w).targets_megabytes(),
        runtime=lambda w, attempt: attempt * estimate(w).targets_minutes(w.teacher),
        gpu=gpus,
    params:
        flags=lambda w: experiment(w).targets_flags(w.teacher, w.seed),
        code=lambda w: experiment(w).code("tabulate_targets", [w.teacher]),
    shell:
        "python workflow/scripts/tabulate_targets.py"
        " --data {input.data:q}"
        " --checkpoint {input.checkpoint:q}"
        " --targets {output.targets:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


rule train_student:
    """Train a small network from the labels, and from the teacher as its method says."""
    input:
        data=lambda w: experiment(w).data_file,
        teacher=lambda w: experiment(w).teacher_file(w.method, w.seed),
    output:
        checkpoint="results/{experiment}/{method}/seed_{seed}/checkpoint.pt",
        history="results/{experiment}/{method}/seed_{seed}/history.csv",
        tensorboard=directory("results/{experiment}/{method}/seed_{seed}/tensorboard"),
    log:
        "logs/train_student/{experiment}/{method}/seed_{seed}.log",
    benchmark:
        "logs/train_student/{experiment}/{method}/seed_{seed}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: job_threads
    resources:
        mem_mb=lambda w, attempt: attempt * estimate(w).training_megabytes(w.method),
        runtime=lambda w: estimate(w).training_minutes(w.method),
        gpu=gpus,
    params:
        flags=lambda w: experiment(w).student_flags(w.method, w.seed),
        code=lambda w: experiment(w).training_code(w.method),
        time_limit=time_limit,
    shell:
        "python workflow/scripts/train_student.py"
        " --data {input.data:q}"
        " --checkpoint {output.checkpoint:q}"
        " --history {output.history:q}"
        " --tensorboard {output.tensorboard:q}"
        " {params.flags:q}"
        " {params.time_limit:q}"
        " 2>&1 | tee -i {log:q}"


# Outputs can't be functions: one rule for each experiment that trains its students together. Those of
# its students that can't join the others have jobs of their own.
for name, chosen in EXPERIMENTS.items():
    if chosen.together:
        workflow.ruleorder(f"train_students_{name}", "train_student")

        rule:
            name:
                f"train_students_{name}"
            input:
                data=chosen.data_file,
                teacher=lambda w, chosen=chosen: chosen.together_teacher(w.seed),
            output:
                checkpoints=chosen.together_files(chosen.together, "checkpoint.pt"),
                histories=chosen.together_files(chosen.together, "history.csv"),
                tensorboards=directory(chosen.together_files(chosen.together, "tensorboard")),
            log:
                f"logs/train_students/{name}/seed_{{seed}}.log",
            benchmark:
                f"logs/train_students/{name}/seed_{{seed}}.tsv"
            conda:
                "../envs/torch.yaml"
            threads: chosen.choices.threads
            resources:
                mem_mb=lambda w, attempt, name=name: attempt * ESTIMATES[name].together_megabytes(),
                runtime=lambda w, name=name: ESTIMATES[name].together_minutes(),
                gpu=int(chosen.on_gpu),
            params:
                flags=lambda w, chosen=chosen: chosen.together_flags(w.seed),
                code=lambda w, chosen=chosen: chosen.training_code(*chosen.together),
                time_limit=time_limit,
            shell:
                "python workflow/scripts/train_students.py"
                " --data {input.data:q}"
                " --checkpoint {output.checkpoints:q}"
                " --history {output.histories:q}"
                " --tensorboard {output.tensorboards:q}"
                " {params.flags:q}"
                " {params.time_limit:q}"
                " 2>&1 | tee -i {log:q}"
