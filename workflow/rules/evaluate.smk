"""From trained networks to measures and attention maps."""


rule evaluate:
    """Measure a trained network on the test split."""
    input:
        data=data_file,
        checkpoint="results/{experiment}/{model}/seed_{seed}/checkpoint.pt",
        teacher_predictions=teacher_file("predictions.npz"),
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
        mem_mb=evaluation_memory,
        runtime=evaluation_runtime,
        gpu=on_gpu,
    params:
        flags=evaluation_flags,
        code=digest("evaluate.py"),
    shell:
        "python workflow/scripts/evaluate.py"
        " --data {input.data:q}"
        " --checkpoint {input.checkpoint:q}"
        " --metrics {output.metrics:q}"
        " --predictions {output.predictions:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


rule extract_attention:
    """Collapse the group outputs of a trained network into attention maps."""
    input:
        data=data_file,
        checkpoint="results/{experiment}/{model}/seed_{seed}/checkpoint.pt",
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
        mem_mb=evaluation_memory,
        runtime=evaluation_runtime,
        gpu=on_gpu,
    params:
        flags=attention_flags,
        code=digest("extract_attention.py"),
    shell:
        "python workflow/scripts/extract_attention.py"
        " --data {input.data:q}"
        " --checkpoint {input.checkpoint:q}"
        " --attention {output.attention:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


rule measure_attention:
    """Measure the attention maps of a trained network over the test split."""
    input:
        data=data_file,
        checkpoint="results/{experiment}/{model}/seed_{seed}/checkpoint.pt",
        teacher=teacher_file("checkpoint.pt"),
    output:
        metrics="results/{experiment}/{model}/seed_{seed}/attention_metrics.csv",
    log:
        "logs/measure_attention/{experiment}/{model}/seed_{seed}.log",
    benchmark:
        "logs/measure_attention/{experiment}/{model}/seed_{seed}.tsv"
    group:
        measure_group
    conda:
        "../envs/torch.yaml"
    threads: job_threads
    resources:
        mem_mb=evaluation_memory,
        runtime=measurement_runtime,
        gpu=on_gpu,
    params:
        flags=measurement_flags,
        code=digest("measure_attention.py"),
    shell:
        "python workflow/scripts/measure_attention.py"
        " --data {input.data:q}"
        " --checkpoint {input.checkpoint:q}"
        " --metrics {output.metrics:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"
