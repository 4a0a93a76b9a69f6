"""From data to trained networks."""


rule train_teacher:
    """Train a large network from the labels."""
    input:
        data=data_file,
    output:
        checkpoint="results/{experiment}/teacher/seed_{seed}/checkpoint.pt",
        history="results/{experiment}/teacher/seed_{seed}/history.csv",
        tensorboard=directory("results/{experiment}/teacher/seed_{seed}/tensorboard"),
    log:
        "logs/train_teacher/{experiment}/seed_{seed}.log",
    benchmark:
        "logs/train_teacher/{experiment}/seed_{seed}.tsv"
    # Everything else waits for the teacher.
    priority: 10
    conda:
        "../envs/torch.yaml"
    threads: job_threads
    resources:
        mem_mb=training_memory,
        runtime=training_runtime,
        gpu=on_gpu,
    params:
        flags=teacher_flags,
        code=digest("train_teacher.py"),
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


rule tabulate_targets:
    """Write a teacher's logits for all views of the training images."""
    input:
        data=data_file,
        checkpoint="results/{experiment}/teacher/seed_{seed}/checkpoint.pt",
    output:
        targets="results/{experiment}/teacher/seed_{seed}/targets.npz",
    log:
        "logs/tabulate_targets/{experiment}/seed_{seed}.log",
    benchmark:
        "logs/tabulate_targets/{experiment}/seed_{seed}.tsv"
    priority: 10
    conda:
        "../envs/torch.yaml"
    threads: job_threads
    resources:
        mem_mb=targets_memory,
        runtime=targets_runtime,
        gpu=on_gpu,
    params:
        flags=targets_flags,
        code=digest("tabulate_targets.py"),
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
        data=data_file,
        teacher=student_teacher,
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
        mem_mb=training_memory,
        runtime=training_runtime,
        gpu=on_gpu,
    params:
        flags=student_flags,
        code=digest("train_student.py"),
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
