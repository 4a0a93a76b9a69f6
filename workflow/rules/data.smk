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
    threads: 1
    resources:
        mem_mb=preparing_memory,
        runtime=short_runtime,
    params:
        flags=data_flags,
        source=data_source,
        code=digest("prepare_data.py"),
    shell:
        "python workflow/scripts/prepare_data.py"
        " --archive {output.archive:q}"
        " --description {output.description:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"
