"""From measures and maps to a table and figures."""


rule render_table:
    """Put the results of an experiment into one table."""
    input:
        results=result_files("metrics.json", "history.csv"),
    output:
        csv="results/{experiment}/table.csv",
        markdown="results/{experiment}/table.md",
        summary="results/{experiment}/summary.json",
        provenance="results/{experiment}/provenance.json",
    log:
        "logs/render_table/{experiment}.log",
    benchmark:
        "logs/render_table/{experiment}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        flags=table_flags,
        code=digest("render_table.py"),
    shell:
        "python workflow/scripts/render_table.py"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --summary {output.summary:q}"
        " --provenance {output.provenance:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


rule render_figures:
    """Draw the figures of an experiment."""
    input:
        results=result_files("metrics.json", "history.csv", "attention.npz"),
        style="workflow/scripts/figures.mplstyle",
    output:
        figures=directory("results/{experiment}/figures"),
    log:
        "logs/render_figures/{experiment}.log",
    benchmark:
        "logs/render_figures/{experiment}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        flags=figure_flags,
        # Of an input, Snakemake misses an edit that has an old time.
        style=file_digest("workflow/scripts/figures.mplstyle"),
        code=digest("render_figures.py"),
    shell:
        "python workflow/scripts/render_figures.py"
        " --style {input.style:q}"
        " --figures {output.figures:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"
