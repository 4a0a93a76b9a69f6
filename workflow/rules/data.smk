"""From a source of images to arrays."""


rule prepare_data:
    """Read, check and describe a data set."""
    output:
        archive="results/data/{data}.npz",
        description="results/data/{data}.json",
    log:
        "logs/prepare_data/{data}.log",
    benchmark:
        "logs/prepare_data/{data}.tsv"
    conda:
        "../envs/torch.yaml"
    # Processes that read a folder of images, as far as there are cores; the result is the same.
    threads: 16
    resources:
        mem_mb=lambda w, attempt: attempt * estimates.preparing_megabytes(CONFIG.data[w.data][1]),
        runtime=lambda w, attempt: attempt * estimates.START_MINUTES,
    params:
        flags=lambda w: data_flags(CONFIG, w.data),
        source=lambda w: CONFIG.data[w.data][1].identity(),
        code=lambda w: data_code(CONFIG, w.data),
    shell:
        "python workflow/scripts/prepare_data.py"
        " --archive {output.archive:q}"
        " --description {output.description:q}"
        " --threads {threads}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"
