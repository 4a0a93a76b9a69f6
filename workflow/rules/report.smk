"""From measures and maps to a table and figures."""


rule render_table:
    """Put the results of an experiment into one table."""
    input:
        results=lambda w: experiment(w).run_files(),
    output:
        csv="results/{experiment}/table.csv",
        markdown="results/{experiment}/table.md",
        page=reported("results/{experiment}/table.html", "table", RESULTS, "table"),
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
        mem_mb=lambda w, attempt: attempt * 1000,
        runtime=lambda w, attempt: attempt * estimates.START_MINUTES,
    params:
        flags=lambda w: experiment(w).run_flags(),
        code=lambda w: experiment(w).report_code("render_table"),
    shell:
        "python workflow/scripts/render_table.py"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --page {output.page:q}"
        " --summary {output.summary:q}"
        " --provenance {output.provenance:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


rule compare_methods:
    """Compare methods in pairs: does one help more than the other?"""
    input:
        results=lambda w: experiment(w).run_files("predictions.npz"),
        style="workflow/scripts/figures.mplstyle",
    output:
        comparison="results/{experiment}/comparison.csv",
        seeds="results/{experiment}/comparison_seeds.csv",
        fidelity="results/{experiment}/fidelity.csv",
        markdown="results/{experiment}/comparison.md",
        page=reported("results/{experiment}/comparison.html", "comparison", RESULTS, "comparison"),
        png=reported(
            "results/{experiment}/comparison.png",
            "comparison_figure",
            RESULTS,
            "comparison, drawn",
        ),
        svg="results/{experiment}/comparison.svg",
    log:
        "logs/compare_methods/{experiment}.log",
    benchmark:
        "logs/compare_methods/{experiment}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: attempt * 1000,
        runtime=lambda w, attempt: attempt * estimates.START_MINUTES,
    params:
        flags=lambda w: experiment(w).comparison_flags(),
        # Of an input, Snakemake misses an edit that has an old time.
        style=file_digest("workflow/scripts/figures.mplstyle"),
        code=lambda w: experiment(w).report_code("compare_methods"),
    shell:
        "python workflow/scripts/compare_methods.py"
        " --comparison {output.comparison:q}"
        " --seeds {output.seeds:q}"
        " --fidelity {output.fidelity:q}"
        " --markdown {output.markdown:q}"
        " --page {output.page:q}"
        " --figure {output.png:q}"
        " --figure-svg {output.svg:q}"
        " --style {input.style:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


rule render_claims:
    """Judge the claims about attention by what was measured."""
    input:
        metrics=lambda w: experiment(w).measurements(),
        comparison="results/{experiment}/comparison.csv",
        data_description=lambda w: experiment(w).data_file.replace(".npz", ".json"),
        style="workflow/scripts/figures.mplstyle",
    output:
        table="results/{experiment}/attention_metrics.csv",
        provenance="results/{experiment}/attention_metrics.json",
        markdown="results/{experiment}/claims.md",
        page=reported("results/{experiment}/claims.html", "claims", CLAIMS, "claims"),
        figures=report(
            directory("results/{experiment}/claims"),
            patterns=["{name}.png"],
            caption="../report/claim.rst",
            category=CLAIMS,
            labels={"experiment": "{experiment}", "what": "{name}, drawn"},
        ),
    log:
        "logs/render_claims/{experiment}.log",
    benchmark:
        "logs/render_claims/{experiment}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: attempt * 1000,
        runtime=lambda w, attempt: attempt * estimates.START_MINUTES,
    params:
        flags=lambda w: experiment(w).claims_flags(),
        style=file_digest("workflow/scripts/figures.mplstyle"),
        code=lambda w: experiment(w).report_code("render_claims"),
    shell:
        "python workflow/scripts/render_claims.py"
        " --metrics {input.metrics:q}"
        " --comparison {input.comparison:q}"
        " --data-description {input.data_description:q}"
        " --table {output.table:q}"
        " --provenance {output.provenance:q}"
        " --markdown {output.markdown:q}"
        " --page {output.page:q}"
        " --figures {output.figures:q}"
        " --style {input.style:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


rule render_figures:
    """Draw the figures of an experiment."""
    input:
        results=lambda w: experiment(w).run_files("attention.npz"),
        style="workflow/scripts/figures.mplstyle",
    output:
        figures=report(
            directory("results/{experiment}/figures"),
            patterns=["{name}.png"],
            caption="../report/figure.rst",
            category=figure_category,
            labels=figure_labels,
        ),
        digests="results/{experiment}/figures.json",
    log:
        "logs/render_figures/{experiment}.log",
    benchmark:
        "logs/render_figures/{experiment}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: attempt * 1000,
        runtime=lambda w, attempt: attempt * estimates.START_MINUTES,
    params:
        flags=lambda w: experiment(w).figure_flags(),
        # Of an input, Snakemake misses an edit that has an old time.
        style=file_digest("workflow/scripts/figures.mplstyle"),
        code=lambda w: experiment(w).report_code("render_figures"),
    shell:
        "python workflow/scripts/render_figures.py"
        " --style {input.style:q}"
        " --figures {output.figures:q}"
        " --digests {output.digests:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"


rule render_overview:
    """Put the experiments of the run into one table, with all differences drawn."""
    input:
        results=[EXPERIMENTS[name].compared_files() for name in CONFIG.run],
        published="docs/results/published_pairs.csv",
        style="workflow/scripts/figures.mplstyle",
    output:
        csv="results/overview.csv",
        markdown="results/overview.md",
        page=reported("results/overview.html", "overview", RESULTS, "table", "all of the run"),
        png=reported("results/overview.png", "overview_figure", RESULTS, "figure", "all of the run"),
        svg="results/overview.svg",
    log:
        "logs/render_overview.log",
    benchmark:
        "logs/render_overview.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: attempt * 1000,
        runtime=lambda w, attempt: attempt * estimates.START_MINUTES,
    params:
        flags=[flag for name in CONFIG.run for flag in EXPERIMENTS[name].overview_flags()],
        figures=["--dpi", str(EXPERIMENTS[CONFIG.run[0]].choices.figures.dpi)],
        style=file_digest("workflow/scripts/figures.mplstyle"),
        published=lambda _: file_digest("docs/results/published_pairs.csv"),
        code=EXPERIMENTS[CONFIG.run[0]].report_code("render_overview"),
    shell:
        "python workflow/scripts/render_overview.py"
        " --published {input.published:q}"
        " --style {input.style:q}"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --page {output.page:q}"
        " --figure {output.png:q}"
        " --figure-svg {output.svg:q}"
        " {params.flags:q}"
        " {params.figures:q}"
        " 2>&1 | tee -i {log:q}"


rule render_index:
    """Put the answer of an experiment, and all else below it, on one page."""
    input:
        results=lambda w: experiment(w).run_files(),
        made=expand(
            "results/{{experiment}}/{name}",
            name=[
                *("table.md", "comparison.csv", "comparison.md", "comparison.png", "fidelity.csv"),
                # With them come folders of figures, whose times don't count. claims.html holds those
                # of the claims.
                *("claims.md", "claims.html", "figures.json"),
            ],
        ),
        data_description=lambda w: experiment(w).data_file.replace(".npz", ".json"),
    output:
        # Not an item of the report, which opens on its answer: browsers show no item above 2 MB.
        index="results/{experiment}/index.html",
    log:
        "logs/render_index/{experiment}.log",
    benchmark:
        "logs/render_index/{experiment}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: attempt * 1000,
        runtime=lambda w, attempt: attempt * estimates.START_MINUTES,
    params:
        flags=lambda w: experiment(w).index_flags(),
        command=command,
        code=lambda w: experiment(w).report_code("render_index"),
    shell:
        "python workflow/scripts/render_index.py"
        " --data-description {input.data_description:q}"
        " --command {params.command:q}"
        " --index {output.index:q}"
        " {params.flags:q}"
        " 2>&1 | tee -i {log:q}"
